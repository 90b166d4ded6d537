-- The two tables that clients and thumbnails live in. A database that was made
-- by the project's first schema has them already: it keeps them, and its rows.

DO $$ BEGIN
    CREATE TYPE photo_status AS ENUM ('pending', 'processing', 'completed', 'failed');
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

-- The first schema's enum may know only pending and completed. A value that is added
-- here can be used only after this migration has been committed: the next one
-- does.
ALTER TYPE photo_status ADD VALUE IF NOT EXISTS 'processing';
ALTER TYPE photo_status ADD VALUE IF NOT EXISTS 'failed';

CREATE TABLE IF NOT EXISTS photos (
    uuid       uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    url        text         NOT NULL,
    status     photo_status NOT NULL DEFAULT 'pending',
    created_at timestamptz  NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS photo_thumbnails (
    uuid       uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    photo_uuid uuid        NOT NULL REFERENCES photos (uuid),
    width      smallint    NOT NULL,
    height     smallint    NOT NULL,
    url        text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

DO $$ BEGIN
    ALTER TABLE photo_thumbnails
        ADD CONSTRAINT photo_thumbnails__photo_uuid__width__height_uniq UNIQUE (photo_uuid, width, height);
EXCEPTION WHEN duplicate_table OR duplicate_object THEN NULL; -- of the first schema
END $$;
