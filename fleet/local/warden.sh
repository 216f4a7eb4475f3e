# The warden: a sandbox that is paused cannot end itself, so this waits until the server that paused it is gone, and then for
# one that follows. Where none comes in time it ends what is still frozen. Its input is a pipe, whose end tells that the
# server is gone. $1: the path of the sandboxes' control groups, but for the end; $2: the file in them that
# freezes; $3: what is in it of one that is frozen; $4: what thaws; $5: a file of the server's, which the next one
# replaces; $6: what is in it; $7: seconds to wait.
# For any POSIX shell: dash, bash, busybox.
trap '' HUP INT TERM
export PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
read -r _

frozen() {
	for file in "$1"*/"$2"; do
		[ "$(cat "$file" 2>/dev/null)" != "$3" ] || echo "${file%/*}"
	done
}

left=$7
while [ "$(cat "$5" 2>/dev/null)" = "$6" ]; do
	groups=$(frozen "$1" "$2" "$3")
	[ -n "$groups" ] || exit 0
	if [ "$left" -le 0 ]; then
		echo "$groups" | while read -r group; do
			while read -r pid; do # none of which can become another's before they go on
				kill -KILL "$pid" 2>/dev/null
			done <"$group/cgroup.procs"
			echo "$4" >"$group/$2"
		done
		exit 0
	fi
	sleep 2
	left=$((left - 2))
done
