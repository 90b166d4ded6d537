-- What processing needs to know beyond the first schema: which run owns the
-- photo, how the last one failed, and what the source turned out to be.
--
-- The CHECKs are NOT VALID: they hold for every row written from now on, while
-- a database from before migrations existed keeps its older rows.

ALTER TABLE photos
    ADD COLUMN updated_at        timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN run_id            text,        -- Temporal's id of the run that owns, or last owned, the photo
    ADD COLUMN run_started_at    timestamptz, -- orders the runs: an older one can take nothing from a newer one
    ADD COLUMN failure_code      text,
    ADD COLUMN failure_message   text,
    ADD COLUMN source_media_type text,        -- by the bytes, such as image/jpeg
    ADD COLUMN source_bytes      bigint,
    ADD COLUMN source_sha256     text;        -- hexadecimal

ALTER TABLE photos
    ADD CONSTRAINT photos__url_check CHECK (url <> '') NOT VALID,
    ADD CONSTRAINT photos__run_check CHECK ((run_id IS NULL) = (run_started_at IS NULL)) NOT VALID,
    ADD CONSTRAINT photos__failure_check CHECK (
        (failure_code IS NULL) = (failure_message IS NULL) AND (failure_code IS NULL OR status = 'failed')) NOT VALID,
    ADD CONSTRAINT photos__source_check CHECK (source_bytes >= 0 AND source_sha256 ~ '^[0-9a-f]{64}$') NOT VALID;

ALTER TABLE photo_thumbnails
    ADD CONSTRAINT photo_thumbnails__size_check CHECK (width > 0 AND height > 0) NOT VALID,
    ADD CONSTRAINT photo_thumbnails__url_check CHECK (url <> '') NOT VALID;

-- The lists by status, oldest first. The thumbnails of a photo are found by the
-- index of photo_thumbnails__photo_uuid__width__height_uniq.
CREATE INDEX photos__status__created_at__uuid_idx ON photos (status, created_at, uuid);
