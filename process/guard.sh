# The guardian: waits until the program that started it is gone, then kills all
# that program left behind and removes its directory. $1: the mark, a variable
# of the environment; $2: the directory, or "". Its input is a pipe: a line
# "PID START" for each process started, "PID" for each that has ended, and EOF when
# the program has died.
# For any POSIX shell: dash, bash, busybox.
trap '' HUP INT TERM
export PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
groups=' ' # of PID:START
while read -r pid began; do
	case $groups in
	*" $pid:"*)
		behind=${groups#*" $pid:"}
		groups="${groups%%" $pid:"*} ${behind#* }"
		;;
	esac
	[ -z "$began" ] || groups="$groups$pid:$began "
done

# A field of proc_pid_stat(5), counted from the state; the name in front may hold spaces.
field() { { read -r stat <"/proc/$1/stat"; } 2>/dev/null && set -- "$2" ${stat##*) } && shift "$1" && echo "$1"; }
for group in $groups; do
	pid=${group%:*}
	start=$(field "$pid" 20)
	[ "$start" != "${group#*:}" ] || kill -KILL "-$pid" 2>/dev/null # dash takes no -- here
done

# The files to look at: not those of other sandboxes, whose code can hold who reads its memory.
environs() {
	others=$(grep -svxF -f /proc/self/cgroup /proc/[0-9]*/cgroup | grep '/k2sandbox-[0-9a-f]\{8\}-' | cut -d: -f1)
	for f in /proc/[0-9]*/environ; do
		case $others in *"${f%environ}cgroup"*) ;; *) echo "$f" ;; esac
	done
}
if printf 'a\0b\n' | grep -qF b; then
	marked() { grep -lsF -e "$1" $(environs); }
else # the grep of busybox stops at a zero byte
	marked() {
		for f in $(environs); do
			tr '\0' '\n' <"$f" | grep -qF -e "$1" && echo "$f"
		done 2>/dev/null
	}
fi
# Twice nothing in a row, as one may have been between fork and exec.
quiet=0
while [ "$quiet" -lt 2 ]; do
	quiet=$((quiet + 1))
	for f in $(marked "$1"); do
		pid=${f#/proc/}
		pid=${pid%/environ}
		group=$(field "$pid" 3) # all at once, where one by one they are born as fast as they die
		[ "${group:-0}" -le 1 ] || kill -KILL "-$group" 2>/dev/null
		kill -KILL "$pid" 2>/dev/null && quiet=0
	done
	sleep 0.1 || sleep 1
done
[ -z "$2" ] || rm -rf -- "$2"
