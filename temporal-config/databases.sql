-- Creates three databases on one PostgreSQL server. Each has its own role,
-- which can connect to no other database. psql runs this file as the superuser,
-- with the passwords in its environment. PostgreSQL's image runs it when the
-- volume is empty; `make cluster` runs it at every start. It is safe to run
-- again, and then sets the passwords again.
\set ON_ERROR_STOP on
\getenv photos_password PHOTOS_PASSWORD
\getenv temporal_password TEMPORAL_PASSWORD
\getenv temporal_visibility_password TEMPORAL_VISIBILITY_PASSWORD

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['photos', 'temporal', 'temporal_visibility']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE photos LOGIN PASSWORD :'photos_password';
ALTER ROLE temporal LOGIN PASSWORD :'temporal_password';
ALTER ROLE temporal_visibility LOGIN PASSWORD :'temporal_visibility_password';

-- A database cannot be created in a transaction, so each has its own statement.
SELECT format('CREATE DATABASE %I OWNER %I', name, name)
FROM unnest(ARRAY['photos', 'temporal', 'temporal_visibility']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

-- By default every role may connect to every database.
SELECT format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', name)
FROM unnest(ARRAY['photos', 'temporal', 'temporal_visibility']) AS name \gexec
