#!/bin/sh
# A tour of the HTTP API with nothing but curl. Usage: tour.sh URL
# where URL is that of a sandbox, such as http://127.0.0.1:8900.
set -eu
api=${1:?usage: tour.sh URL}/v1
dir=/tmp/k2-tour-$$ # in the sandbox
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

say() { printf '\n# %s\n' "$1"; }
get() { curl -fsS "$api/$1"; }
post() { curl -fsS "$api/$1" -H 'Content-Type: application/json' -d "$2"; }
delete() { curl -fsS -X DELETE "$api/$1"; }
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; } # of JSON, by its name
follow() { # a stream that has no end before the sandbox has, up to a line
  curl -fsSN "$api/$1" >"$tmp/lines" &
  until grep "$2" "$tmp/lines" >/dev/null 2>&1; do sleep 0.1; done
  kill $!
  wait $! || :
  cat "$tmp/lines"
}
until_has() { until get "$1" | grep "$2" >/dev/null; do sleep 0.1; done; }

say 'Run code; its output streams while it is printed'
post code '{"code":"print(6*7); print(\"and more\"); 1/3"}'

say 'Run code that never ends, come back to it, and stop it'
run=$(post code '{"code":"while True: pass","detach":true}' | field execution_id)
until_has "executions/$run" '"state":"running"'
post "executions/$run/interrupt" '{}'
get "executions/$run/events"

say 'Answer what the code asks'
run=$(post code '{"code":"print(\"hello\", input(\"name? \"))","allow_stdin":true,"detach":true}' | field execution_id)
until_has "executions/$run" '"waiting_for_input":true'
post "executions/$run/input" '{"value":"Ada"}'
get "executions/$run/events" >/dev/null # waits for the end
get "executions/$run/output"

say 'A kernel more, with its own variables'
context=$(post contexts '{"language":"python","cwd":"/"}' | field context_id)
post code "{\"context\":\"$context\",\"code\":\"xs = list(range(1000))\"}" >/dev/null
get "contexts/$context/variables"
post "contexts/$context/complete" '{"code":"xs.app"}'
post "contexts/$context/restart" '{}' >/dev/null
delete "contexts/$context"

say 'What is installed; what is there already is installed at once'
get packages | tr '{' '\n' | grep ipykernel
post packages '{"packages":["ipykernel"]}'

say 'Watch a directory; write a file into it, and read a part of it'
post files/mkdir "{\"path\":\"$dir\"}"
curl -fsSN -D "$tmp/head" "$api/files/watch?path=$dir&recursive=true" >"$tmp/watch" &
until [ -s "$tmp/head" ]; do sleep 0.1; done
echo 'hello from outside' | curl -fsS -T - "$api/files?path=$dir/a/hello.txt"
curl -fsS -r 0-4 "$api/files?path=$dir/a/hello.txt"
get "files/list?path=$dir&depth=2"

say 'A directory as an archive, and back'
get "files/archive?path=$dir/a" >"$tmp/a.tar"
curl -fsS -T "$tmp/a.tar" "$api/files/archive?path=$dir/b"
post files/move "{\"from\":\"$dir/b\",\"to\":\"$dir/c\"}"
delete "files?path=$dir&recursive=true"
wait # the watch ends with its directory
cat "$tmp/watch"

say 'A command, with its input'
post processes '{"cmd":"tr a-z A-Z; exit 3","stdin":"shouted\n"}'

say 'A command in the background: its input is streamed, its output can be had again'
pid=$(post processes '{"args":["cat"],"stdin":true,"background":true}' | field pid)
echo 'one more line' | curl -fsS -X POST -T - "$api/processes/$pid/stdin?eof=true"
get "processes/$pid/events"
get "processes/$pid/events?after=2"

say 'A terminal'
pid=$(post processes '{"cmd":"stty size; sleep 600","pty":{"rows":30,"cols":100},"background":true}' | field pid)
until_has "processes/$pid" '"events":2'
post "processes/$pid/signal" '{"signal":"SIGTERM"}'
get "processes/$pid/events"
delete "processes/$pid"

say 'A server inside, reached from outside'
port=$(post code '{"code":"import http.server, threading\nserver = http.server.HTTPServer((\"127.0.0.1\", 0), http.server.SimpleHTTPRequestHandler)\nthreading.Thread(target=server.serve_forever, daemon=True).start()\nprint(server.server_port)"}' | sed -n 's/.*"text":"\([0-9]*\)\\n.*/\1/p')
get "ports/$port/" | grep -i '<title>'

say 'A notebook, with a parameter'
post notebooks/run '{"parameters":{"n":21},"notebook":{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[
 {"id":"a","cell_type":"code","metadata":{"tags":["parameters"]},"execution_count":null,"outputs":[],"source":"n = 1"},
 {"id":"b","cell_type":"code","metadata":{},"execution_count":null,"outputs":[],"source":"print(n * 2)"}]}}'

say 'A new kernel; and all that happened'
post reset '{}'
follow timeline '"type":"context_restarted".*"context":"default"'

say 'Everything over one connection, from now on'
follow 'stream?after=now&include=executions,processes,metrics&interval=1' '"source":"metrics"'
