#!/bin/sh
# Creates Temporal's tables, or brings them to the version that the server needs. It can be run again at any time; when there is
# nothing to do it changes nothing. Run it with the new version's tool before a new version of the server starts.
#
# The schema is the one embedded in temporal-sql-tool, which has the server's version: there are no files that could be of another.
#
#	SQL_HOST, SQL_PORT                               PostgreSQL
#	TEMPORAL_PASSWORD, TEMPORAL_VISIBILITY_PASSWORD  of the roles that databases.sql makes
set -eu
export SQL_PLUGIN=postgres12_pgx

update() {
	export SQL_DATABASE="$1" SQL_USER="$1" SQL_PASSWORD="$2"
	# The table that tells the schema's version. In a database that has one, this leaves it alone.
	temporal-sql-tool setup-schema --version 0.0
	temporal-sql-tool update-schema --schema-name "postgresql/v12/$3"
}

update temporal "$TEMPORAL_PASSWORD" temporal
update temporal_visibility "$TEMPORAL_VISIBILITY_PASSWORD" visibility
