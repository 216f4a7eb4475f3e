package notebook

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
)

// Papermill asks for papermill's metadata of the notebook and its cells, in which
// other tools look how a run went, and for its banner after an error.
type Papermill struct {
	InputPath, OutputPath string
	Version               string // of the program that runs the notebook
}

// record is what papermill's metadata say of a run. A nil record writes none.
type record struct {
	DefaultParameters    struct{}        `json:"default_parameters"`
	Duration             *float64        `json:"duration"`
	EndTime              *string         `json:"end_time"`
	EnvironmentVariables struct{}        `json:"environment_variables"`
	Exception            *bool           `json:"exception"`
	InputPath            string          `json:"input_path"`
	OutputPath           string          `json:"output_path"`
	Parameters           json.RawMessage `json:"parameters"`
	StartTime            *string         `json:"start_time"`
	Version              string          `json:"version,omitempty"`

	began time.Time
}

// cellRecord is what papermill's metadata say of a cell.
type cellRecord struct {
	Duration  *float64 `json:"duration"`
	EndTime   *string  `json:"end_time"`
	Exception *bool    `json:"exception"`
	StartTime *string  `json:"start_time"`
	Status    string   `json:"status"` // pending, running, completed or failed

	began time.Time
}

// newRecord begins to record a run: all cells are pending, and those that will run
// have shown nothing yet.
func newRecord(nb *Notebook, o *Options) *record {
	if o.Papermill == nil {
		return nil
	}
	r := &record{
		InputPath: o.Papermill.InputPath, OutputPath: o.Papermill.OutputPath, Version: o.Papermill.Version,
		Parameters: json.RawMessage("{}"),
	}
	old, _ := nb.Metadata.Get("papermill")
	if given := gjson.GetBytes(old, "parameters"); given.IsObject() { // by Parameterize
		r.Parameters = json.RawMessage(given.Raw)
	}
	if !o.PrepareOnly {
		r.began = time.Now()
		r.StartTime = stamp(r.began)
		for _, c := range nb.Cells {
			(&cellRecord{Status: "pending"}).write(c)
			if c.Type == Code && !c.HasTag(o.SkipTag) {
				c.Outputs, c.ExecutionCount = nil, nil
			}
		}
	}
	nb.Metadata.Set("papermill", r)
	return r
}

func (r *record) cellBegins(c *Cell) *cellRecord {
	if r == nil {
		return nil
	}
	exception, began := false, time.Now()
	cell := &cellRecord{Status: "running", Exception: &exception, StartTime: stamp(began), began: began}
	cell.write(c)
	return cell
}

// ends writes how the cell went.
func (r *cellRecord) ends(c *Cell, failed bool) {
	if r == nil {
		return
	}
	now := time.Now()
	r.Status, r.Exception, r.EndTime, r.Duration = "completed", &failed, stamp(now), seconds(now.Sub(r.began))
	if failed {
		r.Status = "failed"
	}
	r.write(c)
}

func (r *cellRecord) write(c *Cell) { c.Metadata.Set("papermill", r) }

// ends writes how the run went, with the banner where a cell failed.
func (r *record) ends(nb *Notebook, end Event) {
	if r == nil || r.StartTime == nil {
		return
	}
	now := time.Now()
	r.EndTime, r.Duration = stamp(now), seconds(now.Sub(r.began))
	if end.Status != executor.OK {
		failed := true
		r.Exception = &failed
		if end.Cell != nil && end.Status != executor.Interrupted {
			nb.addBanners(*end.Cell)
		}
	}
	nb.Metadata.Set("papermill", r)
}

// stamp spells a time as Python's isoformat does.
func stamp(t time.Time) *string {
	s := t.UTC().Format("2006-01-02T15:04:05.000000-07:00")
	return &s
}

func seconds(d time.Duration) *float64 {
	s := d.Round(time.Microsecond).Seconds()
	return &s
}

// bannerTag marks the cells that point at an error; the next run removes them.
const bannerTag = "papermill-error-cell-tag"

const bannerStyle = `style="color:red; font-family:Helvetica Neue, Helvetica, Arial, sans-serif; font-size:2em;"`

// addBanners puts a cell before the one that failed, and one at the top with a link there.
func (n *Notebook) addBanners(failed int) {
	count := "None"
	if c := n.Cells[failed].ExecutionCount; c != nil {
		count = fmt.Sprint(*c)
	}
	for _, banner := range []struct {
		at   int
		text string
	}{
		{failed, `<span id="papermill-error-cell" ` + bannerStyle + `>The run stopped here, at an error:</span>`},
		{0, `<span ` + bannerStyle + `>An error was encountered at '<a href="#papermill-error-cell">In [` + count + `]</a>'.</span>`},
	} {
		cell := n.NewCell(Markdown, banner.text)
		cell.Metadata.Set("tags", []string{bannerTag})
		n.Cells = slices.Insert(n.Cells, banner.at, cell)
	}
}

func (n *Notebook) removeBanners() {
	n.Cells = slices.DeleteFunc(n.Cells, func(c *Cell) bool { return c.HasTag(bannerTag) })
}

// hideSources marks the source of code cells as hidden, for JupyterLab and nbconvert.
func (n *Notebook) hideSources() {
	for _, c := range n.Cells {
		if c.Type != Code {
			continue
		}
		var jupyter Object
		if raw, ok := c.Metadata.Get("jupyter"); ok {
			_ = json.Unmarshal(raw, &jupyter) // what is no object is replaced
		}
		jupyter.Set("source_hidden", true)
		c.Metadata.Set("jupyter", jupyter)
	}
}
