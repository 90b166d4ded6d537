#!/bin/sh
# Backs up all data of photo-processor to a new directory while everything runs,
# and restores it. `make backup` and `make restore` call it:
#
#	backup.sh backup native|compose DIR
#	backup.sh restore native|compose DIR
#
# native is the stack that `make start` or `make cluster` runs, compose that of
# docker-compose.yml. compose needs only a shell, tar and docker on the host. A
# restore needs a running stack, which may be empty. With FORCE=1 it does not ask.
# DEV is the path of photo-processor-dev, bin/photo-processor-dev by default.
#
# DIR has after a backup:
#
#	photos.sql                             dump of the database photos
#	temporal.sql, temporal_visibility.sql  dumps of Temporal's databases, or
#	temporal.db, temporal.db-wal           SQLite's files (make start)
#	thumbnails-1.tar, thumbnails-2.tar     the bucket; to be extracted in this order
#	missing-files                          keys that photos.sql names and the tar
#	                                       files lack, one per line
#	about, complete                        time and versions; checksums of all files
#
# The order of a backup matters, because its parts are of different moments:
#
#  1. thumbnails-1.tar. A photo that is processed again during the backup loses
#     its old files, which photos.sql may still name.
#  2. photos.sql
#  3. Temporal. A photo whose workflow ended between 2 and 3 is pending or
#     processing in photos.sql: the reconciler processes the latter again. In the
#     other order, requests that were answered between them would be lost.
#  4. thumbnails-2.tar, the files that were written since 1. A file is written
#     before a row names it, and its content never changes. So 1 and 4 together
#     have the files of all rows, except those of a photo that was processed twice
#     during the backup. missing-files lists these.
set -eu
umask 077 # photos.sql has the URLs of sources, which may contain signatures

fail() {
	printf 'backup.sh: %s\n' "$*" >&2
	exit 1
}

say() { printf '%s\n' "$*"; }

# --- native -------------------------------------------------------------------

native_init() {
	dev=${DEV:-bin/photo-processor-dev}
	status=$("$dev" status) || fail "the stack does not run; start it first: make start, or make cluster"
	eval "$("$dev" env)"
	case $DATABASE_URL in
	postgres://photos@/photos\?host=*) ;;
	*) fail "DATABASE_URL names a PostgreSQL that is not the stack's own; back it up by its own means" ;;
	esac
	processes=$(say "$status" | awk '$2 == "process" || $2 " " $3 == "not running" { print $1 }')
	case " $(echo $processes) " in
	*" temporal-ui "*) temporal=postgresql ;;
	*" temporal "*) temporal=sqlite ;;
	*) fail "TEMPORAL_ADDRESS names a Temporal that is not the stack's own; back it up by its own means" ;;
	esac
	clients=$(say "$processes" | grep -E '^(api|worker.*)$')
	servers=$(say "$processes" | grep -E '^temporal')
	bucket_url=${THUMBNAILS_BUCKET:-file://$DATA_DIR/thumbnails}
	program=$(dirname "$dev")/photo-processor
}

native_pg() {
	pg_program=$1 pg_database=$2
	shift 2
	"$pg_program" --dbname="postgres://photos@/$pg_database?${DATABASE_URL#*\?}" "$@"
}

native_in_bucket() { "$@"; }
native_version() { "$(dirname "$dev")/photo-processor" version; }
native_stop() { "$dev" stop $clients $servers; }
native_start() { "$dev" start $servers $clients; }

# --- docker compose -----------------------------------------------------------

compose_init() {
	temporal=postgresql
	docker compose up --wait postgres
	bucket_url=$(compose_in_bucket printenv THUMBNAILS_BUCKET </dev/null)
	program="docker compose exec api photo-processor"
}

compose_pg() {
	pg_program=$1 pg_database=$2
	shift 2
	docker compose exec -T postgres "$pg_program" --username=postgres --dbname="$pg_database" "$@"
}

# Runs a program in a new container with the volume of the bucket.
compose_in_bucket() {
	entrypoint=$1
	shift
	docker compose run --rm --no-deps -T --entrypoint "$entrypoint" api "$@"
}

compose_version() { compose_in_bucket photo-processor version; }
compose_stop() { docker compose stop api worker temporal-ui temporal; }
compose_start() { docker compose up --wait; }

# --- both ---------------------------------------------------------------------

# Sets bucket to the bucket's directory, or to nothing if the bucket is not one.
find_bucket() {
	case $bucket_url in
	file://*%*) fail "THUMBNAILS_BUCKET: backup.sh cannot read the escapes in $bucket_url" ;;
	file:/// | file:///\?*) fail "THUMBNAILS_BUCKET: the root directory is not a bucket" ;;
	file:///*) bucket=${bucket_url#file://} bucket=${bucket%%\?*} ;;
	*) bucket= ;;
	esac
}

# Writes the bucket to a tar file, with further options of tar, and appends the
# keys to the list files. Unfinished files end in .tmp. tar's exit code is 1 if a
# file was deleted meanwhile.
archive_bucket() {
	archive=$dir/$1
	shift
	"${stack}_in_bucket" sh -c 'tar --create "$@" . || [ $? = 1 ]' sh \
		--directory="$bucket" --exclude='*.tmp' "$@" </dev/null >"$archive"
	[ -s "$archive" ] || fail "$archive is empty"
	tar --list --file="$archive" >"$dir/list" || fail "$archive is not complete"
	sed -n 's|^\./\(.*[^/]\)$|\1|p' "$dir/list" >>"$dir/files"
}

# Dumps a database.
dump() {
	"${stack}_pg" pg_dump "$1" </dev/null >"$dir/$1.sql"
	tail -n 8 "$dir/$1.sql" | grep -q 'database dump complete' || fail "$dir/$1.sql is not complete"
}

# Prints the keys that the rows of photos.sql name.
list_rows() {
	awk -F '\t' '
		/^COPY public\.photo_thumbnails \(/ {
			gsub(/.*\(|\).*/, ""); n = split($0, columns, ", ")
			for (i = 1; i <= n; i++) if (columns[i] == "url") url = i
			next
		}
		$0 == "\\." { url = 0 }
		url { print $url }' "$dir/photos.sql"
}

backup() {
	mkdir -p "$dir"
	[ -z "$(ls -A "$dir")" ] || fail "$dir is not empty; each backup needs a new directory"
	if [ -n "$bucket" ]; then
		# An hour earlier: a file gets its time before it gets its name.
		since=$(($(date +%s) - 3600))
		say "Copying the bucket $bucket …"
		archive_bucket thumbnails-1.tar
	fi
	say "Dumping the photos …"
	dump photos
	say "Copying Temporal's data …"
	if [ $temporal = sqlite ]; then
		copy_sqlite
	else
		# One directly after the other: the Web UI does not list workflows that are
		# missing in temporal_visibility.
		dump temporal
		dump temporal_visibility
	fi
	if [ -n "$bucket" ]; then
		say "Copying the files that were written since …"
		archive_bucket thumbnails-2.tar --newer-mtime="@$since"
		list_rows | LC_ALL=C sort >"$dir/rows"
		LC_ALL=C sort -u -o "$dir/files" "$dir/files"
		LC_ALL=C comm -23 "$dir/rows" "$dir/files" >"$dir/missing-files"
		rm "$dir/rows" "$dir/files" "$dir/list"
	fi
	{
		say "time: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
		say "temporal: $temporal"
		say "version: $("${stack}_version" </dev/null)"
		say "postgresql: $("${stack}_pg" psql postgres -AtXc 'SHOW server_version' </dev/null)"
		say "bucket: ${bucket_url%%\?*}"
	} >"$dir/about"
	(cd "$dir" && sha256sum -- * >.complete && mv .complete complete)
	say "The backup in $dir is complete."
	if [ -z "$bucket" ]; then
		say "It has no thumbnails: back up the bucket by its own means (versions, replication), and keep deleted files as long as this backup."
	elif [ -s "$dir/missing-files" ]; then
		say "It lacks $(($(wc -l <"$dir/missing-files"))) files that rows name; missing-files has their keys. Their photos were processed twice during the backup, or lacked the files before. Repeat the backup, or process these photos after a restore."
	fi
}

# Copies SQLite's files while nothing writes them. Workers wait for Temporal.
copy_sqlite() {
	trap '"$dev" start temporal' EXIT
	"$dev" stop temporal
	for file in temporal.db temporal.db-wal; do
		[ ! -e "$DATA_DIR/$file" ] || cp "$DATA_DIR/$file" "$dir"
	done
	trap - EXIT
	"$dev" start temporal
}

confirm() {
	[ "${FORCE:-}" != 1 ] || return 0
	[ -t 0 ] || fail "restore replaces all data; on a terminal it asks, FORCE=1 skips the question"
	printf 'This replaces all photos, workflows and thumbnails of the stack with the backup of %s. Type yes: ' "$(sed -n 's/^time: //p' "$dir/about")"
	read -r answer
	[ "$answer" = yes ] || fail "nothing has changed"
}

restore() {
	[ -f "$dir/complete" ] || fail "$dir is not a complete backup: it lacks the file complete"
	(cd "$dir" && sha256sum --check --quiet complete) || fail "$dir is damaged; nothing has changed"
	grep -qx "temporal: $temporal" "$dir/about" ||
		fail "Temporal's data is in $temporal, that of the backup is not ($(grep '^temporal:' "$dir/about")); make start and make cluster cannot restore each other's backups"
	[ -z "$bucket" ] || [ -f "$dir/thumbnails-1.tar" ] || fail "the backup has no bucket, but the stack has: $bucket"
	confirm

	databases=photos
	[ $temporal = sqlite ] || databases="photos temporal temporal_visibility"
	# Into new databases: a failure here changes nothing.
	for database in $databases; do
		say "Loading the database $database …"
		"${stack}_pg" psql postgres -qXc "DROP DATABASE IF EXISTS ${database}_restored" </dev/null 2>/dev/null
		"${stack}_pg" psql postgres -qXc "CREATE DATABASE ${database}_restored OWNER $database TEMPLATE template0" </dev/null
		"${stack}_pg" psql "${database}_restored" -qX --output=/dev/null --single-transaction --set=ON_ERROR_STOP=1 --file=- --command=ANALYZE <"$dir/$database.sql"
	done
	say "Stopping the services …"
	trap 'say "The restore has failed, and services are stopped. Restore again; the backup is unchanged."' EXIT
	"${stack}_stop"
	for database in $databases; do
		# As temporal-config/databases.sql creates it: only its owner may connect.
		"${stack}_pg" psql postgres -qX --set=ON_ERROR_STOP=1 --file=- <<-SQL
			DROP DATABASE IF EXISTS $database WITH (FORCE);
			ALTER DATABASE ${database}_restored RENAME TO $database;
			REVOKE CONNECT ON DATABASE $database FROM PUBLIC;
		SQL
	done
	if [ $temporal = sqlite ]; then
		rm -f "$DATA_DIR/temporal.db" "$DATA_DIR/temporal.db-wal" "$DATA_DIR/temporal.db-shm"
		cp "$dir"/temporal.db* "$DATA_DIR"
	fi
	if [ -n "$bucket" ]; then
		say "Restoring the bucket $bucket …"
		"${stack}_in_bucket" mkdir -p "$bucket" </dev/null
		"${stack}_in_bucket" find "$bucket" -mindepth 1 -delete </dev/null
		for archive in thumbnails-1.tar thumbnails-2.tar; do
			"${stack}_in_bucket" tar --extract --preserve-permissions --directory="$bucket" <"$dir/$archive"
		done
	fi
	say "Starting the services …"
	"${stack}_start"
	trap - EXIT
	say "The backup of $(sed -n 's/^time: //p' "$dir/about") is restored. Photos that were processing end by themselves. What is left for you:"
	[ -n "$bucket" ] || say "  restore the bucket ${bucket_url%%\?*} by its own means"
	[ "$stack" = compose ] || say "  eval \"\$($dev env)\""
	say "  $program audit                          # rows without files, and files without rows"
	say "  $program process --all-pending --watch  # photos posted just before or after the backup"
}

[ $# = 3 ] && [ -n "$3" ] || fail "usage: backup.sh backup|restore native|compose DIR"
stack=$2 dir=$3
case $stack in native | compose) ;; *) fail "the stack must be native or compose, not $stack" ;; esac
case $1 in backup | restore) ;; *) fail "the command must be backup or restore, not $1" ;; esac
"${stack}_init"
find_bucket
"$1"
