package notebook

import "github.com/k2sandbox/k2sandbox/mime"

// The types of outputs.
const (
	Stream        = "stream"
	DisplayData   = "display_data"
	ExecuteResult = "execute_result"
	ErrorOutput   = "error"
)

// Output is one output of a code cell. Which fields it has depends on its type.
type Output struct {
	Type           string      // Stream, DisplayData, ExecuteResult or ErrorOutput
	Name, Text     string      // of a stream: stdout or stderr, and what was written
	Data, Metadata mime.Bundle // of display_data and execute_result, as a kernel sends them
	ExecutionCount *int        // of execute_result
	Ename, Evalue  string      // of an error
	Traceback      []string
	Extra          Object // members that nbformat does not name; all of an unknown type

	read *outputRead
}

// outputRead is what an output was read from.
type outputRead struct {
	origin *origin
	raw    string
	output Output
	count  int // what output.ExecutionCount pointed to
}
