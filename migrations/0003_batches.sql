-- Batches: the photos of one request, whose progress clients follow; and the
-- indexes by which the page finds changed photos and failures.

CREATE TABLE batches (
    uuid        uuid        PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now(),
    query       text,        -- selected the photos; NULL if their UUIDs were posted
    started_at  timestamptz, -- when the last photo had been started; no photo is added later
    canceled_at timestamptz,
    done_at     timestamptz, -- when all photos were found completed or failed
    result      jsonb,       -- the counts at done_at; later runs of the photos do not change them
    CONSTRAINT batches__result_check CHECK ((done_at IS NULL) = (result IS NULL) AND (done_at IS NULL OR started_at IS NOT NULL))
);
CREATE INDEX batches__created_at__uuid_idx ON batches (created_at, uuid);
CREATE INDEX batches__open_idx ON batches (created_at) WHERE done_at IS NULL;

CREATE TABLE batch_photos (
    batch_uuid uuid NOT NULL REFERENCES batches (uuid) ON DELETE CASCADE,
    photo_uuid uuid NOT NULL, -- references nothing: a posted UUID may have no photo
    old_run_id text,          -- the run whose outcome does not count: it ended before the photo was started for the batch
    PRIMARY KEY (batch_uuid, photo_uuid)
);

CREATE INDEX photos__updated_at__uuid_idx ON photos (updated_at, uuid);
CREATE INDEX photos__failure_code__created_at__uuid_idx ON photos (failure_code, created_at, uuid) WHERE failure_code IS NOT NULL;
