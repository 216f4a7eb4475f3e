package api

import (
	"path"
	"strings"
)

// MCPPath is where an agent answers what the tools of MCP ask of a sandbox: POST MCPPath/NAME, with the tool's request
// below as the body, and GET MCPPath/output?run_id=ID&output=N, which answers with the bytes of the original of an
// MCPOutput.
//
// What POST answers with is NDJSON, a line an MCPLine: any number of progress, at once and at most every second, and
// then, by the wait of the request and a few seconds, one line with an answer or an error. What is wrong before
// anything has begun is an ErrorBody with its status instead. Who leaves before that has the run interrupted.
const MCPPath = "/mcp"

// The tools that an agent answers, each with its request and the member of MCPAnswer that is set.
const (
	ToolRunCode         = "run_code"         // MCPRunCode → Run
	ToolGetRun          = "get_run"          // MCPGetRun → Run
	ToolInterruptRun    = "interrupt_run"    // MCPInterruptRun → Run
	ToolRunCommand      = "run_command"      // MCPRunCommand → Run
	ToolReadFile        = "read_file"        // MCPReadFile → File
	ToolWriteFile       = "write_file"       // MCPWriteFile → Written
	ToolListFiles       = "list_files"       // MCPListFiles → Files
	ToolInstallPackages = "install_packages" // MCPInstallPackages → Run
)

// Bounds of the tools.
const (
	MaxMCPWait     = 60       // seconds that a call may wait
	MCPWait        = 45       // seconds that it waits where the request says nothing
	MaxMCPChars    = 100_000  // Unicode code points of max_output_chars
	MCPChars       = 20_000   // where the request says nothing
	MaxMCPLine     = 4 << 20  // bytes of a line that an agent answers with
	MaxMCPOutput   = 16 << 20 // bytes of an original that GET MCPPath/output answers with
	MaxMCPImage    = 48 << 10 // bytes of an image's base64
	MaxMCPImages   = 2        // in an answer
	MaxMCPEntries  = 500      // in an MCPListing
	maxMCPContent  = 8 << 20  // bytes of what write_file writes
	maxMCPLines    = 100_000  // of one read_file
	maxMCPDepth    = 8        // of one list_files
	maxMCPCursor   = 64       // bytes
	maxMCPLanguage = 64       // bytes of a language
	maxMCPOffset   = 1_000_000_000
)

// Images says what becomes of the images of a run.
type Images string

// What can become of them. Text tells of each in any case.
const (
	ImagesAuto Images = "auto" // the first MaxMCPImages are in the answer, shrunk; all have a link
	ImagesLink Images = "link" // links alone
	ImagesNone Images = "none" // neither
)

// MCPRunCode asks to run code.
type MCPRunCode struct {
	Code           string   `json:"code" api:"required"`
	ContextID      string   `json:"context_id,omitempty"` // "" is the default context of the language
	Language       string   `json:"language,omitempty"`   // "" is python; "" where there is a context_id
	TimeoutS       *float64 `json:"timeout_s,omitempty"`  // how long to wait, nil being MCPWait: what runs longer goes on, with the status running
	KillAfterS     float64  `json:"kill_after_s,omitempty"`
	MaxOutputChars int      `json:"max_output_chars,omitempty"`
	Images         Images   `json:"images,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPRunCode) Validate() error {
	if r.ContextID != "" && r.Language != "" {
		return Invalid("language", "cannot be combined with context_id, which has one")
	}
	if err := shortText("language", r.Language, maxMCPLanguage); err != nil {
		return err
	}
	if r.KillAfterS < 0 || r.KillAfterS > MaxTimeout || r.KillAfterS != r.KillAfterS {
		return Invalid("kill_after_s", "expected seconds from 0 (never) to %d", MaxTimeout)
	}
	return validShow("timeout_s", r.TimeoutS, r.MaxOutputChars, r.Images)
}

// MCPGetRun asks for what a run, a command or an installation has put out.
type MCPGetRun struct {
	RunID          string   `json:"run_id" api:"required"`
	After          string   `json:"after,omitempty"`  // a next_cursor or an MCPOmitted.After; "" is from the beginning
	WaitS          *float64 `json:"wait_s,omitempty"` // for its end; nil is MCPWait
	MaxOutputChars int      `json:"max_output_chars,omitempty"`
	Images         Images   `json:"images,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPGetRun) Validate() error {
	if err := shortText("after", r.After, maxMCPCursor); err != nil {
		return err
	}
	return validShow("wait_s", r.WaitS, r.MaxOutputChars, r.Images)
}

// MCPInterruptRun asks to interrupt a run, a command or an installation. The state of its context stays.
type MCPInterruptRun struct {
	RunID          string `json:"run_id" api:"required"`
	MaxOutputChars int    `json:"max_output_chars,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPInterruptRun) Validate() error { return validShow("", nil, r.MaxOutputChars, "") }

// MCPRunCommand asks to run a command: one of Command and Argv.
type MCPRunCommand struct {
	Command        string   `json:"command,omitempty"`   // a line for /bin/sh
	Argv           []string `json:"argv,omitempty"`      // a program and its arguments, without a shell
	Cwd            string   `json:"cwd,omitempty"`       // absolute; "" is the sandbox's
	TimeoutS       *float64 `json:"timeout_s,omitempty"` // how long to wait: what runs longer goes on, with the status running
	KillAfterS     float64  `json:"kill_after_s,omitempty"`
	MaxOutputChars int      `json:"max_output_chars,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPRunCommand) Validate() error {
	switch {
	case r.Command == "" && len(r.Argv) == 0:
		return Invalid("command", "is required, or argv")
	case r.Command != "" && len(r.Argv) > 0:
		return Invalid("argv", "cannot be combined with command: give one of the two")
	case r.Command == "" && r.Argv[0] == "":
		return Invalid("argv", "the first names the program: it must not be empty")
	case strings.ContainsRune(r.Command, 0):
		return Invalid("command", "must not contain a NUL character")
	}
	for _, arg := range r.Argv {
		if strings.ContainsRune(arg, 0) {
			return Invalid("argv", "must not contain a NUL character")
		}
	}
	if r.Cwd != "" && !path.IsAbs(r.Cwd) {
		return Invalid("cwd", "expected an absolute path, got %.1000q", r.Cwd)
	}
	if r.KillAfterS < 0 || r.KillAfterS > MaxTimeout || r.KillAfterS != r.KillAfterS {
		return Invalid("kill_after_s", "expected seconds from 0 (never) to %d", MaxTimeout)
	}
	return validShow("timeout_s", r.TimeoutS, r.MaxOutputChars, "")
}

// MCPReadFile asks for a part of a text, or for an image.
type MCPReadFile struct {
	Path           string `json:"path" api:"required"`
	Offset         int    `json:"offset,omitempty"` // the first line, counted from 1, which 0 stands for
	Limit          int    `json:"limit,omitempty"`  // lines; 0 is as many as max_output_chars has room for
	MaxOutputChars int    `json:"max_output_chars,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPReadFile) Validate() error {
	if r.Offset < 0 || r.Offset > maxMCPOffset {
		return Invalid("offset", "expected a line from 1 to %d, got %d", maxMCPOffset, r.Offset)
	}
	if r.Limit < 0 || r.Limit > maxMCPLines {
		return Invalid("limit", "expected at most %d lines, got %d", maxMCPLines, r.Limit)
	}
	return validShow("", nil, r.MaxOutputChars, "")
}

// WriteMode says what becomes of a file that is there.
type WriteMode string

// What can become of it.
const (
	WriteOver   WriteMode = "overwrite" // it is replaced
	WriteAppend WriteMode = "append"    // the content comes after its own
	WriteNew    WriteMode = "create"    // there must be none
)

// MCPWriteFile asks to write a file: one of Content and Base64, or neither for an empty one.
type MCPWriteFile struct {
	Path    string    `json:"path" api:"required"`
	Content *string   `json:"content,omitempty"`
	Base64  []byte    `json:"base64,omitempty"`
	Mode    WriteMode `json:"mode,omitempty"` // "" is overwrite
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPWriteFile) Validate() error {
	switch {
	case r.Content != nil && r.Base64 != nil:
		return Invalid("base64", "cannot be combined with content: give one of the two")
	case r.Content != nil && len(*r.Content) > maxMCPContent, len(r.Base64) > maxMCPContent:
		return Errorf(TooLarge, "content: is longer than %d bytes: write it in parts with the mode append", maxMCPContent)
	}
	switch r.Mode {
	case "", WriteOver, WriteAppend, WriteNew:
		return nil
	}
	return Invalid("mode", `expected "overwrite", "append" or "create", got %.64q`, r.Mode)
}

// MCPListFiles asks for what is in a directory.
type MCPListFiles struct {
	Path  string `json:"path,omitempty"`  // "" is the sandbox's working directory
	Depth int    `json:"depth,omitempty"` // directories down; 0 is 1
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPListFiles) Validate() error {
	if r.Depth < 0 || r.Depth > maxMCPDepth {
		return Invalid("depth", "expected an integer from 1 to %d, got %d", maxMCPDepth, r.Depth)
	}
	return nil
}

// MCPInstallPackages asks to install packages into the sandbox's Python.
type MCPInstallPackages struct {
	Packages       []string `json:"packages" api:"required"` // dependency specifiers (PEP 508)
	Upgrade        bool     `json:"upgrade,omitempty"`
	TimeoutS       *float64 `json:"timeout_s,omitempty"` // how long to wait: what takes longer goes on, with the status running
	MaxOutputChars int      `json:"max_output_chars,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *MCPInstallPackages) Validate() error {
	if err := r.Request().Validate(); err != nil {
		return err
	}
	return validShow("timeout_s", r.TimeoutS, r.MaxOutputChars, "")
}

// Request returns what that is in the native API.
func (r *MCPInstallPackages) Request() *PackagesRequest {
	return &PackagesRequest{Packages: r.Packages, Upgrade: r.Upgrade}
}

// validShow checks what requests have in common. wait names the field of the seconds.
func validShow(wait string, seconds *float64, chars int, images Images) error {
	if seconds != nil && !(*seconds >= 0 && *seconds <= MaxMCPWait) { // NaN is neither
		return Invalid(wait, "expected seconds from 0 to %d, got %v", MaxMCPWait, *seconds)
	}
	if chars < 0 || chars > MaxMCPChars {
		return Invalid("max_output_chars", "expected at most %d, got %d", MaxMCPChars, chars)
	}
	switch images {
	case "", ImagesAuto, ImagesLink, ImagesNone:
		return nil
	}
	return Invalid("images", `expected "auto", "link" or "none", got %.64q`, images)
}

func shortText(field, text string, most int) error {
	if len(text) > most {
		return Invalid(field, "is longer than %d bytes", most)
	}
	return nil
}

// MCPLine is a line that an agent answers with. One of its members is set.
type MCPLine struct {
	Progress *MCPProgress `json:"progress,omitempty"`
	Answer   *MCPAnswer   `json:"answer,omitempty"` // the last line; or
	Error    *Error       `json:"error,omitempty"`  // that
}

// MCPProgress tells how far a call is.
type MCPProgress struct {
	RunID    string  `json:"run_id"`
	ElapsedS float64 `json:"elapsed_s"` // grows from line to line
	Line     string  `json:"line"`      // the newest line of the output, 200 characters at most
}

// MCPAnswer is what a tool answers with: what a model reads, in order, and one of the others, which programs read.
type MCPAnswer struct {
	Content []MCPContent `json:"content"`

	Run     *MCPRun     `json:"run,omitempty"`
	File    *MCPFile    `json:"file,omitempty"`
	Written *MCPWritten `json:"written,omitempty"`
	Files   *MCPListing `json:"files,omitempty"`
}

// ContentType says what an MCPContent is.
type ContentType string

// What it can be.
const (
	TextContent  ContentType = "text"  // Text: Markdown
	ImageContent ContentType = "image" // MIME, Data
	LinkContent  ContentType = "link"  // Name, MIME, Size, Path, and RunID and Output where it is one of a run
)

// MCPContent is a text, an image, or a link to an original.
type MCPContent struct {
	Type   ContentType `json:"type"`
	Text   string      `json:"text,omitempty"`
	MIME   string      `json:"mime,omitempty"`   // of an image: image/png or image/jpeg
	Data   []byte      `json:"data,omitempty"`   // at most MaxMCPImage in base64
	Name   string      `json:"name,omitempty"`   // such as 1.png
	Size   int64       `json:"size,omitempty"`   // bytes
	Path   string      `json:"path,omitempty"`   // in the sandbox; "" where the original could not be kept as a file
	RunID  string      `json:"run_id,omitempty"` // with Output: of GET MCPPath/output
	Output int         `json:"output,omitempty"`
}

// MCPRun tells of a run of code, a command or an installation. stdout, stderr and result together have at most
// max_output_chars; what was left out of them is marked in them, and told by Omitted.
type MCPRun struct {
	RunID          string       `json:"run_id"`
	Status         string       `json:"status"` // queued, running, ok, error, timeout, interrupted, aborted, kernel_died or sandbox_killed
	ContextID      string       `json:"context_id,omitempty"`
	ExecutionCount *int         `json:"execution_count,omitempty"`
	ExitCode       *int         `json:"exit_code,omitempty"` // of a command; -1 where a signal ended it
	Signal         string       `json:"signal,omitempty"`
	Stdout         string       `json:"stdout,omitempty"`
	Stderr         string       `json:"stderr,omitempty"`
	Result         string       `json:"result,omitempty"` // what was displayed, as text
	Error          *MCPFailure  `json:"error,omitempty"`
	Outputs        []MCPOutput  `json:"outputs,omitempty"` // images and other files among what was displayed
	Truncated      bool         `json:"truncated,omitempty"`
	Omitted        []MCPOmitted `json:"omitted,omitempty"`
	NextCursor     string       `json:"next_cursor,omitempty"`   // as After of get_run: what comes after this answer
	FilesChanged   []string     `json:"files_changed,omitempty"` // in the working directory, of those that were looked at
	Installed      []string     `json:"installed,omitempty"`     // name==version
	StateLost      bool         `json:"state_lost,omitempty"`    // the context's variables are gone
	Notes          []string     `json:"notes,omitempty"`         // what else there is to know, in words
	DurationS      float64      `json:"duration_s"`
}

// MCPFailure is what code raised, or why it ended.
type MCPFailure struct {
	Name      string `json:"name"`
	Value     string `json:"value,omitempty"`
	Traceback string `json:"traceback,omitempty"`
}

// MCPOmitted tells what was left out of a stream of a run.
type MCPOmitted struct {
	Stream string `json:"stream"`          // stdout, stderr, result or traceback
	Chars  int64  `json:"chars"`           // exactly, of the text without escape sequences
	After  string `json:"after,omitempty"` // as After of get_run: reads on from there
}

// MCPOutput is an image or another file among what a run displayed.
type MCPOutput struct {
	Output int    `json:"output"` // its number in the run, which is that of its event
	MIME   string `json:"mime"`
	Size   int64  `json:"size"`             // bytes of the original
	Width  int    `json:"width,omitempty"`  // pixels
	Height int    `json:"height,omitempty"` // pixels
	Path   string `json:"path,omitempty"`   // of the original, in the sandbox
}

// MCPFile tells of a file that was read.
type MCPFile struct {
	Path       string `json:"path"`
	MIME       string `json:"mime"`
	Size       int64  `json:"size"`                  // bytes; -1 where that is not known
	FirstLine  int    `json:"first_line,omitempty"`  // of a text
	Lines      int    `json:"lines,omitempty"`       // that are in Text
	NextOffset int    `json:"next_offset,omitempty"` // where to read on; 0 at the end
	Text       string `json:"text,omitempty"`
	Truncated  bool   `json:"truncated,omitempty"` // of a line its end was left out
}

// MCPWritten tells of a file that was written.
type MCPWritten struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"` // bytes, of the whole file
	Created bool   `json:"created"`
}

// MCPListing is what is in a directory.
type MCPListing struct {
	Path      string     `json:"path"`
	Entries   []MCPEntry `json:"entries"`             // at most MaxMCPEntries
	Truncated bool       `json:"truncated,omitempty"` // there are more
}

// MCPEntry is a file in a directory.
type MCPEntry struct {
	Path     string `json:"path"`
	Type     string `json:"type"` // as in package files: file, dir, symlink, …
	Size     int64  `json:"size"`
	Modified string `json:"modified"` // RFC 3339, UTC
	Target   string `json:"target,omitempty"`
}
