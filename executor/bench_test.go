package executor

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// BenchmarkOutput is what each message of output takes from the kernel's to the line of its event.
func BenchmarkOutput(b *testing.B) {
	image := bytes.Repeat([]byte("iVBORw0KGgoAAAANSUhEUgAA"), 4<<20/24)
	for _, c := range []struct{ name, kind, content string }{
		{"line", "stream", `{"name": "stdout", "text": "a line of output\n"}`},
		{"result", "execute_result", `{"data": {"text/plain": "2"}, "metadata": {}, "execution_count": 1}`},
		{"image", "display_data", fmt.Sprintf(`{"data": {"image/png": "%s", "text/plain": "<Figure size 640x480 with 1 Axes>"}, "metadata": {}, "transient": {"display_id": "a1"}}`, image)},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := wire.Message{
				Channel: wire.IOPub, Header: fmt.Appendf(nil, `{"msg_id":"x","msg_type":%q}`, c.kind),
				Parent: []byte(`{"msg_id":"y"}`), Content: []byte(c.content),
			}
			b.SetBytes(int64(len(c.content)))
			b.ReportAllocs()
			for b.Loop() {
				log := journal.New(journal.Options{Memory: 8 << 20})
				for range 10 {
					e, ok := output(&m)
					if !ok {
						b.Fatal("it is no output")
					}
					log.Append(&e)
					if len(c.content) > 1<<20 {
						break
					}
				}
			}
		})
	}
}
