-- Placeholders, which pages show until a thumbnail is loaded.

ALTER TABLE photos
    ADD COLUMN placeholder bytea, -- a ThumbHash of the source; NULL before the thumbnails, and for those that an older version made
    ADD CONSTRAINT photos__placeholder_check CHECK (octet_length(placeholder) BETWEEN 5 AND 25) NOT VALID;
