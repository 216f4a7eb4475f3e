package jupyter_test

import (
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
)

var uuid = regexp.MustCompile(`^\w+-\w+-\w+-\w+-\w+$`)

func TestAKernelIsTheDefaultContextOfASandbox(t *testing.T) {
	s := start(t, nil)
	resp := s.call("POST", "/api/kernels", `{"name":"python3","env":{"KERNEL_USERNAME":"ada"},"unknown":1}`)
	k := servertest.Decode[api.JupyterKernel](t, resp, 201)
	if want := "/api/kernels/" + k.ID; resp.Header.Get("Location") != want {
		t.Errorf("Location %q, want %q", resp.Header.Get("Location"), want)
	}
	if !uuid.MatchString(k.ID) || k.Name != "python3" || k.ID != api.KernelID(s.machines.Last().ID, "default") {
		t.Errorf("got %+v", k)
	}
	if envs := s.machines.Last().Envs; envs["KERNEL_USERNAME"] != "ada" || envs["KERNEL_GATEWAY"] != "1" {
		t.Errorf("its variables are %v", envs)
	}
	if text := servertest.Read(t, s.call("GET", "/api/kernels/"+k.ID, "")); !strings.Contains(text, `"last_activity":"2025-11-24T16:00:00.000000Z"`) {
		t.Errorf("got %s", text)
	}
	if got := s.kernels(); !slices.Equal(got, []string{k.ID}) {
		t.Errorf("listed %v", got)
	}
	servertest.Done(t, s.call("DELETE", "/api/kernels/"+k.ID, ""))
	if state := s.state(sandboxOf(k)); state != fleet.Ended {
		t.Errorf("its sandbox is %s", state)
	}
	refused(t, s.call("GET", "/api/kernels/"+k.ID, ""), 404)
	refused(t, s.call("DELETE", "/api/kernels/"+k.ID, ""), 404)
}

// A body may be empty, and of a type that says nothing: curl and Tornado call it a form.
func TestBodiesOfAnyType(t *testing.T) {
	s := start(t, nil)
	for _, typ := range []string{"application/x-www-form-urlencoded", "text/plain", "application/json"} {
		for _, body := range []string{"", "{}", `{"name":null}`} {
			servertest.Decode[api.JupyterKernel](t, s.call("POST", "/api/kernels", body, "Content-Type", typ), 201)
		}
	}
}

func TestAKernelOfAnotherLanguageEndsItsSandbox(t *testing.T) {
	s := start(t, nil)
	k := s.kernel(`{"name":"bash"}`)
	if k.Name != "bash" || k.ID == api.KernelID(sandboxOf(k), "default") {
		t.Errorf("got %+v", k)
	}
	second := servertest.Decode[api.JupyterKernel](t, s.call("POST", "/api/kernels?sandbox="+sandboxOf(k), `{"name":"python3"}`), 201)
	if got := s.kernels(); !slices.Equal(got, []string{k.ID, second.ID}) {
		t.Errorf("listed %v", got)
	}
	servertest.Done(t, s.call("DELETE", "/api/kernels/"+k.ID, ""))
	if state := s.state(sandboxOf(k)); state != fleet.Running {
		t.Errorf("it is %s while a kernel is left", state)
	}
	servertest.Done(t, s.call("DELETE", "/api/kernels/"+second.ID, ""))
	if state := s.state(sandboxOf(k)); state != fleet.Ended {
		t.Errorf("it is %s without a kernel", state)
	}
}

func TestAKernelInASandboxThatThereIs(t *testing.T) {
	s := start(t, nil)
	info := s.native("")
	first := servertest.Decode[api.JupyterKernel](t, s.call("POST", "/api/kernels?sandbox="+info.ID, ""), 201)
	second := s.kernel(`{"env":{"K2_SANDBOX_ID":"` + info.ID + `"}}`)
	if sandboxOf(first) != info.ID || sandboxOf(second) != info.ID {
		t.Errorf("they are %+v and %+v", first, second)
	}
	if got := s.kernels(); len(got) != 3 {
		t.Errorf("listed %v", got)
	}
	for _, k := range []api.JupyterKernel{first, second} {
		servertest.Done(t, s.call("DELETE", "/api/kernels/"+k.ID, ""))
	}
	if state := s.state(info.ID); state != fleet.Running {
		t.Errorf("it is %s", state)
	}
	refused(t, s.call("POST", "/api/kernels?sandbox=sb_nobody", ""), 404)
}

func TestWhatCannotBeStartedLeavesNothing(t *testing.T) {
	s := start(t, nil)
	if got := refused(t, s.call("POST", "/api/kernels", `{"name":"cobol"}`), 404); !strings.Contains(got, "cobol") {
		t.Errorf("told %q", got)
	}
	refused(t, s.call("POST", "/api/kernels", `{"name":"nothing"}`), 404) // the agent says
	for body, field := range map[string]string{
		`{"name":"../x"}`: "name", `{"name":1}`: "name", `{"env":[]}`: "env", `{"env":{"A":1}}`: "env", `{"env":{"A=":"x"}}`: "env", `[]`: "body", `{`: "JSON",
	} {
		if got := refused(t, s.call("POST", "/api/kernels", body), 400); !strings.Contains(got, field) {
			t.Errorf("%s: told %q, and not of %s", body, got, field)
		}
	}
	if page, err := s.Fleet.List(fleet.ListOptions{}); err != nil || len(page.Sandboxes) != 0 {
		t.Errorf("left %+v, %v", page, err)
	}
}

func TestOptionsOfAGateway(t *testing.T) {
	s := start(t, func(o *jupyter.Options, fo *fleet.Options) {
		o.Force, o.Default, o.Hide, o.Base = "bash", "python3", true, "/base"
		o.Envs, o.AllowEnv = map[string]string{"SITE": "here"}, []string{"LEVEL"}
		fo.Max = 1
	})
	resp := s.call("POST", "/api/kernels", `{"name":"python3","env":{"KERNEL_A":"1","LEVEL":"2","SECRET":"3"}}`)
	k := servertest.Decode[api.JupyterKernel](t, resp, 201)
	if k.Name != "bash" || resp.Header.Get("Location") != "/base/api/kernels/"+k.ID {
		t.Errorf("got %+v at %s", k, resp.Header.Get("Location"))
	}
	envs := s.machines.Last().Envs
	if envs["KERNEL_A"] != "1" || envs["LEVEL"] != "2" || envs["SITE"] != "here" || envs["SECRET"] != "" {
		t.Errorf("its variables are %v", envs)
	}
	refused(t, s.call("GET", "/api/kernels", ""), 403)
	refused(t, s.call("GET", "/api/sessions", ""), 403)
	if got := refused(t, s.call("POST", "/api/kernels", ""), 403); !strings.HasPrefix(got, "Resource Limit") {
		t.Errorf("told %q", got)
	}
	specs := servertest.Decode[api.JupyterSpecs](t, s.call("GET", "/api/kernelspecs", ""), 200)
	if specs.Default != "bash" || len(specs.Specs) != 3 {
		t.Errorf("got %+v", specs)
	}
}

// A kernel is there as long as its sandbox is, though that cannot say so now.
func TestKernelsOfSandboxesThatDoNotAnswer(t *testing.T) {
	s := start(t, nil)
	k, other := s.kernel(""), s.kernel(`{"name":"bash"}`)
	want := []string{k.ID, other.ID}
	if got := s.kernels(); !slices.Equal(got, want) {
		t.Errorf("listed %v", got)
	}
	if _, err := s.Fleet.Pause(t.Context(), sandboxOf(k)); err != nil {
		t.Fatal(err)
	}
	if got := servertest.Decode[api.JupyterKernel](t, s.call("GET", "/api/kernels/"+k.ID, ""), 200); got.ExecutionState != "unknown" || got.ID != k.ID {
		t.Errorf("a paused one is %+v", got)
	}
	s.machines.takeOver(func(string, net.Conn) bool { return true })
	if got := s.kernels(); !slices.Equal(got, want) {
		t.Errorf("listed %v", got)
	}
	refused(t, s.call("POST", "/api/kernels/"+other.ID+"/interrupt", "{}"), 502)
	refused(t, s.call("POST", "/api/kernels/"+k.ID+"/interrupt", "{}"), 409)
}

// Nothing that an agent says is believed which is not of its own sandbox, or makes no sense.
func TestAgentsThatLie(t *testing.T) {
	s := start(t, nil)
	k, info := s.kernel(""), s.native("")
	other := sandboxOf(k)
	mine := `{"id":"` + api.KernelID(info.ID, "default") + `","name":"python3","last_activity":"2025-11-24T16:00:00Z","execution_state":"idle","connections":0}`
	for name, body := range map[string]string{
		"another's kernel": `[{"id":"` + api.KernelID(other, "x") + `","name":"python3","last_activity":"2025-11-24T16:00:00Z","execution_state":"idle"}]`,
		"no id":            `[` + strings.Replace(mine, api.KernelID(info.ID, "default"), "../../v1", 1) + `]`,
		"a state":          `[` + strings.Replace(mine, "idle", "<b>", 1) + `]`,
		"a name":           `[` + strings.Replace(mine, "python3", "<script>", 1) + `]`,
		"connections":      `[` + strings.Replace(mine, ":0}", ":-1}", 1) + `]`,
		"a time":           `[` + strings.Replace(mine, "2025", "late", 1) + `]`,
		"no list":          mine,
		"no JSON":          "{{",
		"much":             `[` + strings.Repeat(mine+",", 10000) + mine + `]`,
		"too many":         `[` + strings.Repeat(mine+",", 300) + mine + `]`,
	} {
		s.machines.takeOver(func(id string, conn net.Conn) bool {
			if id == info.ID {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+body)
			}
			return true
		})
		for _, got := range s.kernels() {
			if box, _, ok := api.ParseKernelID(got); !ok || box != info.ID && got != k.ID {
				t.Errorf("%s: listed %s", name, got)
			}
		}
	}
}

// An agent that hangs is waited for once; nobody else's kernels wait for it, or are missing.
func TestAnAgentThatHangs(t *testing.T) {
	s := start(t, nil)
	k, hung := s.kernel(""), s.native("")
	release := make(chan struct{})
	asked := make(chan struct{}, 100)
	s.machines.hang(hung.ID, func() { asked <- struct{}{}; <-release })
	t.Cleanup(func() { close(release) })
	want := []string{k.ID, api.KernelID(hung.ID, "default")}
	for range 3 {
		if got := s.kernels(); !slices.Equal(got, want) {
			t.Errorf("listed %v", got)
		}
	}
	<-asked // the first time; later the question may be given up before it is sent
	servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"path":"a.ipynb","type":"notebook"}`), 201)
}
