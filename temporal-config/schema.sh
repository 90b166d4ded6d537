#!/bin/sh
# Creates Temporal's tables, or migrates them to the version that the server
# needs. It is safe to run again. Before you start a new version of the server,
# run this script with that version's tool.
#
# temporal-sql-tool embeds the schema of its own version, so tool and schema
# always match.
#
#	SQL_HOST, SQL_PORT                               PostgreSQL
#	TEMPORAL_PASSWORD, TEMPORAL_VISIBILITY_PASSWORD  passwords of the roles that
#	                                                 databases.sql creates
set -eu
export SQL_PLUGIN=postgres12_pgx

update() {
	export SQL_DATABASE="$1" SQL_USER="$1" SQL_PASSWORD="$2"
	# Creates the table with the schema's version, unless it exists.
	temporal-sql-tool setup-schema --version 0.0
	temporal-sql-tool update-schema --schema-name "postgresql/v12/$3"
}

update temporal "$TEMPORAL_PASSWORD" temporal
update temporal_visibility "$TEMPORAL_VISIBILITY_PASSWORD" visibility
