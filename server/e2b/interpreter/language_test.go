package interpreter_test

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestLanguagePython(t *testing.T) {
	shared.run(t, "y = 5")
	for _, name := range []string{"python", "Python", "py"} {
		if e := shared.run(t, "y", object{"language": name}); e.Results[0]["text"] != "5" {
			t.Errorf("%s: %v", name, e.Results)
		}
	}
}

// languages is what holds for each language but Python: say is code that writes X, whose value is set by set.
var languages = []struct {
	name, id        string
	set, say, write string // write writes "begun" and then takes for ever
	variable        string // writes WILD, or a line end
	wrong           string
}{
	// A bash that is about to begin a job at a terminal can lose Ctrl-C: here the job itself writes.
	{"bash", "default-bash", "X=3", "echo $X", "sh -c 'echo begun; exec sleep 300'", `printf '%s\n' "$WILD"`, "false"},
	{"js", "default-javascript", "let X = 3", "console.log(X)", "console.log('begun'); while (true) {}", "console.log(process.env.WILD ?? '')", "throw new TypeError('no')"},
	{"typescript", "default-typescript", "let X: number = 3", "console.log(X)", "{ const begun: string = 'begun'; console.log(begun); while (true) {} }", "console.log(Deno.env.get('WILD') ?? '')", "throw new TypeError('no')"},
}

func TestLanguages(t *testing.T) {
	p := shared
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			in := object{"language": l.name}
			p.run(t, l.set, in)
			if e := p.run(t, l.say, in); !reflect.DeepEqual(e.Stdout, []string{"3\n"}) || e.Error != nil {
				t.Errorf("%+v", e)
			}
			if e := p.run(t, l.say, object{"context_id": l.id}); !reflect.DeepEqual(e.Stdout, []string{"3\n"}) {
				t.Errorf("by the context's id: %+v", e)
			}
			if e := p.run(t, l.wrong, in); e.Error == nil {
				t.Errorf("no error: %+v", e)
			}
			p.leave(t, l.write, in)
			if e := p.run(t, l.say, in); !reflect.DeepEqual(e.Stdout, []string{"3\n"}) {
				t.Errorf("after an interrupt: %+v", e)
			}
		})
	}
}

func TestVariablesInLanguages(t *testing.T) {
	p := shared
	wild := `it's "wild" $X ${X} \n é` + "\n'; throw 1; exit 3 #"
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			in := object{"language": l.name}
			before := p.run(t, l.variable, in)
			e := p.run(t, l.variable, in, object{"env_vars": object{"WILD": wild}})
			if got := strings.Join(e.Stdout, ""); strings.ReplaceAll(got, "\r", "") != wild+"\n" {
				t.Errorf("WILD is %q", got)
			}
			if e.Count != before.Count.(float64)+1 {
				t.Errorf("count %v after %v", e.Count, before.Count)
			}
			if e := p.run(t, l.variable, in); strings.Join(e.Stdout, "") != "\n" {
				t.Errorf("the variable stayed: %q", e.Stdout)
			}
		})
	}
	if status, words := p.ask(t, "POST", "/execute", object{"code": ":", "language": "bash", "env_vars": object{"a b": "c"}}); status != 400 || !strings.Contains(words, "env_vars") {
		t.Errorf("%d %s", status, words)
	}
}

// The kernel of bash types at a terminal: what a variable has in it is no key there.
func TestVariablesAreNoKeys(t *testing.T) {
	in := object{"language": "bash"}
	for _, value := range []string{"\x15: > keys #", "\x03\n: > keys\n", "a\tb", "\x04", "\x1b[A\x16\x17", "a\r\nb", "!!\u2028\x7f"} {
		e := shared.run(t, `printf %s "$KEYS" | od -An -v -tx1; ls keys 2> /dev/null`, in, object{"env_vars": object{"KEYS": value}})
		if got := strings.Join(strings.Fields(strings.Join(e.Stdout, "")), ""); got != hex.EncodeToString([]byte(value)) {
			t.Errorf("%q arrived as %s", value, got)
		}
	}
}

// Deno says that it is idle before it has written all.
func TestAllThatJavaScriptWrites(t *testing.T) {
	for range 10 {
		e := shared.run(t, "for (let i = 0; i < 300; i++) console.log(i); 'end'", object{"language": "js"})
		if got := strings.Count(strings.Join(e.Stdout, ""), "\n"); got != 300 || len(e.Results) != 1 || e.Results[0]["text"] != "end" {
			t.Fatalf("%d lines, results %v, error %v", got, e.Results, e.Error)
		}
	}
}

// E2B has a context of JavaScript from the start: here it is there as soon as it is used.
func TestContextThatIsReady(t *testing.T) {
	p := shared
	id := "default-javascript"
	if got := get[any](t, p, "DELETE", "/contexts/"+id, nil); got != nil {
		t.Errorf("remove: %v", got)
	}
	all := get[[]contextInfo](t, p, "GET", "/contexts", nil)
	if all[1].ID != id || all[1].Language != "javascript" || all[1].Cwd == "" {
		t.Errorf("contexts %+v", all)
	}
	if got := get[any](t, p, "POST", "/contexts/"+id+"/restart", nil); got != nil {
		t.Errorf("restart: %v", got)
	}
	all = get[[]contextInfo](t, p, "GET", "/contexts", nil)
	if n := slices.IndexFunc(all, func(c contextInfo) bool { return c.ID == id }); n < 0 || all[n].Language != "javascript" {
		t.Errorf("contexts %+v", all)
	}
	c := get[contextInfo](t, p, "POST", "/contexts", object{"language": "javascript"})
	if c.ID == id || c.Language != "javascript" {
		t.Errorf("another context %+v", c)
	}
	get[any](t, p, "DELETE", "/contexts/"+c.ID, nil)
}
