package k2sandbox_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
)

// The README shows this function, and TestREADME compares.
func Example() {
	ctx := context.Background()
	interpreter := os.Getenv("K2_TEST_PYTHON") // any Python that has ipykernel: python.Ensure makes one
	box, err := agent.New(ctx, agent.Options{Spec: kernel.PythonSpec(interpreter)})
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()

	main, _ := box.Context(agent.DefaultContext)
	for event, err := range main.Run(ctx, executor.Cell{Code: "print('hello')\n6 * 7"}) {
		if err != nil {
			log.Fatal(err)
		}
		switch event.Type {
		case executor.Stdout:
			fmt.Print(event.Text)
		case executor.Result:
			text, _ := event.Data.Get("text/plain")
			fmt.Println("result:", text.Text())
		case executor.End:
			fmt.Println("end:", event.Status)
		}
	}
	// Output:
	// hello
	// result: 42
	// end: ok
}
