package notebook_test

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// widgetCode plays ipywidgets, by the messages that it sends.
const widgetCode = `
import comm
def widget(id, name, module, buffers=(), **state):
    state = {"_model_name": name, "_model_module": module, "_model_module_version": "1.0.0", **state}
    return comm.create_comm(target_name="jupyter.widget", comm_id=id, metadata={"version": "2.1.0"},
        data={"state": state, "buffer_paths": [["value"] for b in buffers]}, buffers=list(buffers))
def update(c, **state):
    import sys; sys.stdout.flush(); sys.stderr.flush()
    c.send({"method": "update", "state": state, "buffer_paths": []})
def capture(c): update(c, msg_id=get_ipython().kernel.get_parent()["header"]["msg_id"])
def release(c): update(c, msg_id="")
heard = []
out = widget("out", "OutputModel", "@jupyter-widgets/output", outputs=[], msg_id="")
out.on_msg(lambda m: heard.append(m["content"]["data"]["state"]["outputs"]))
inner = widget("inner", "OutputModel", "@jupyter-widgets/output", outputs=[], msg_id="")
`

// What has no bound of its own counts, too.
func TestNamesTakeOfTheLimit(t *testing.T) {
	nb := of(widgetCode, `
c = widget("names", "M", "m")
for i in range(50): update(c, **{"n" * 10_000 + str(i): 1})
`, "for i in range(50): display(1, display_id='d' * 10_000 + str(i))")
	ends(t, nb, notebook.Options{OutputLimit: 100_000}, executor.OK)
	if n := len(member(t, nb.Metadata, "widgets")); n > 100_000 {
		t.Errorf("%d bytes of widgets", n)
	}
	if n := len(nb.Cells[2].Outputs); n > 10 {
		t.Errorf("%d displays", n)
	}
}

// An Output widget cannot show what is nested as deep as a message may be: with the
// list around it that is too deep for JSON.
func TestOutputWidgetsAndDeepJSON(t *testing.T) {
	nb := of(widgetCode, `
import sys
limit = sys.getrecursionlimit(); sys.setrecursionlimit(200_000)
deep = []
for _ in range(9_997): deep = [deep]
capture(out)
display({"application/json": deep}, raw=True)
release(out)
sys.setrecursionlimit(limit); del deep
`, "1")
	ends(t, nb, notebook.Options{}, executor.OK)
	wants(t, nb.Cells[2], "execute_result 1")
}

func TestWidgetsAreKept(t *testing.T) {
	nb := of(widgetCode, `
slider = widget("slider", "IntSliderModel", "@jupyter-widgets/controls", value=1)
update(slider, value=7)
picture = widget("picture", "ImageModel", "@jupyter-widgets/controls", buffers=[b"\x00\xff"])
other = comm.create_comm(target_name="other", comm_id="other", data={"state": {"a": 1}})
custom = widget("custom", "M", "m"); custom.send({"method": "custom", "content": {}})
`)
	ends(t, nb, notebook.Options{}, executor.OK)
	state := gjson.Get(member(t, nb.Metadata, "widgets"), `application/vnd\.jupyter\.widget-state+json`)
	if state.Get("version_major").Int() != 2 || state.Get("version_minor").Int() != 0 {
		t.Errorf("state %s", state)
	}
	for path, want := range map[string]string{
		"state.slider.model_name":           `"IntSliderModel"`,
		"state.slider.model_module":         `"@jupyter-widgets/controls"`,
		"state.slider.model_module_version": `"1.0.0"`,
		"state.slider.state.value":          `7`,
		"state.slider.buffers":              ``,
		"state.picture.buffers":             `[{"data":"AP8=","encoding":"base64","path":["value"]}]`,
		"state.other":                       ``,
	} {
		if got := state.Get(path).Raw; got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	nb = of("1")
	ends(t, nb, notebook.Options{}, executor.OK)
	if _, ok := nb.Metadata.Get("widgets"); ok {
		t.Error("a notebook without widgets has their state")
	}
}

func TestOutputWidgetsCapture(t *testing.T) {
	nb := of(widgetCode,
		`print("before"); capture(out); print("in"); display(1)
capture(inner); print("deeper"); release(inner)
print("still", flush=True); release(out); print("after")`,
		`import sys; capture(out); get_ipython().display_pub.clear_output(wait=True); print("again"); print("!", file=sys.stderr); release(out)
len(heard), heard[-1][0]["text"]`,
		`heard[-1]`,
		`update(out, outputs=[{"output_type": "stream", "name": "stdout", "text": "set\n"}])
capture(out)
1 / 0`,
	)
	ends(t, nb, notebook.Options{}, executor.Failed)
	wants(t, nb.Cells[1], `stdout "before\nafter\n"`)
	wants(t, nb.Cells[2], `execute_result (1, 'in\n')`)
	shownAgain := shown(nb.Cells[3])
	for _, want := range []string{"'text': 'again\\n'", "'name': 'stderr'", "'output_type': 'stream'"} {
		if !strings.Contains(shownAgain, want) || strings.Contains(shownAgain, "still") {
			t.Errorf("heard %s", shownAgain)
		}
	}
	wants(t, nb.Cells[4], "")
	state := gjson.Get(member(t, nb.Metadata, "widgets"), `application/vnd\.jupyter\.widget-state+json`)
	if got := state.Get("state.inner.state.outputs").Raw; got != `[{"output_type":"stream","name":"stdout","text":"deeper\n"}]` {
		t.Errorf("inner has %s", got)
	}
	if got := state.Get("state.out.state.outputs.#.output_type").Raw; got != `["stream","error"]` {
		t.Errorf("out has %s", got)
	}
}
