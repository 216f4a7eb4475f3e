package otlp

import (
	"encoding/binary"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// message is one of Protocol Buffers that is written. The numbers of fields are those of
// https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto and its neighbours. The generated
// code has a runtime that registers all types when a program begins, and each sandbox begins one.
type message struct{ b []byte }

// encode returns an ExportTraceServiceRequest of spans that are all of one program, and of one scope.
func encode(spans []sdk.ReadOnlySpan) []byte {
	var request message
	request.within(1, func(m *message) { // ResourceSpans
		m.within(1, func(m *message) { m.attributes(1, spans[0].Resource().Attributes()) })
		m.within(2, func(m *message) { // ScopeSpans
			scope := spans[0].InstrumentationScope()
			m.within(1, func(m *message) {
				m.text(1, scope.Name)
				m.text(2, scope.Version)
			})
			for _, s := range spans {
				m.within(2, func(m *message) { m.span(s) })
			}
		})
		m.text(3, spans[0].Resource().SchemaURL())
	})
	return request.b
}

func (m *message) span(s sdk.ReadOnlySpan) {
	own, parent := s.SpanContext(), s.Parent()
	trace, id := own.TraceID(), own.SpanID()
	m.bytes(1, trace[:])
	m.bytes(2, id[:])
	m.text(3, own.TraceState().String())
	if above := parent.SpanID(); above.IsValid() {
		m.bytes(4, above[:])
	}
	m.text(5, s.Name())
	m.number(6, uint64(s.SpanKind())) // has the same numbers
	m.time(7, s.StartTime())
	m.time(8, s.EndTime())
	m.attributes(9, s.Attributes())
	m.number(10, uint64(s.DroppedAttributes()))
	for _, e := range s.Events() {
		m.within(11, func(m *message) {
			m.time(1, e.Time)
			m.text(2, e.Name)
			m.attributes(3, e.Attributes)
		})
	}
	m.number(12, uint64(s.DroppedEvents()))
	if status := s.Status(); status.Code != codes.Unset {
		m.within(15, func(m *message) {
			m.text(2, status.Description)
			m.number(3, statuses[status.Code])
		})
	}
	m.flags(byte(own.TraceFlags()), parent.IsRemote())
}

// statuses are the numbers of codes, which OTLP has the other way round.
var statuses = map[codes.Code]uint64{codes.Ok: 1, codes.Error: 2}

// flags writes those of W3C Trace Context, and whether the span above is another program's.
func (m *message) flags(flags byte, remote bool) {
	all := uint32(flags) | 1<<8 // it is known
	if remote {
		all |= 1 << 9
	}
	m.tag(16, fixed32)
	m.b = binary.LittleEndian.AppendUint32(m.b, all)
}

func (m *message) attributes(field int, attrs []attribute.KeyValue) {
	for _, a := range attrs {
		m.within(field, func(m *message) { // KeyValue
			m.text(1, string(a.Key))
			m.within(2, func(m *message) { m.value(a.Value) })
		})
	}
}

// value writes an AnyValue, of which a field is there also where it is zero.
func (m *message) value(v attribute.Value) {
	switch v.Type() {
	case attribute.BOOL:
		m.varint(2, boolean[v.AsBool()])
	case attribute.INT64:
		m.varint(3, uint64(v.AsInt64()))
	case attribute.FLOAT64:
		m.fixed(4, math.Float64bits(v.AsFloat64()))
	default:
		m.bytes(1, []byte(v.String()))
	}
}

func (m *message) within(field int, write func(*message)) {
	var inner message
	write(&inner)
	m.bytes(field, inner.b)
}

// The types of fields: https://protobuf.dev/programming-guides/encoding/#structure
const (
	varint  = 0
	fixed64 = 1
	length  = 2
	fixed32 = 5
)

var boolean = map[bool]uint64{true: 1}

func (m *message) tag(field, kind int) { m.b = binary.AppendUvarint(m.b, uint64(field<<3|kind)) }

func (m *message) bytes(field int, value []byte) {
	m.tag(field, length)
	m.b = append(binary.AppendUvarint(m.b, uint64(len(value))), value...)
}

func (m *message) text(field int, value string) {
	if value != "" {
		m.bytes(field, []byte(value))
	}
}

func (m *message) number(field int, value uint64) {
	if value != 0 {
		m.varint(field, value)
	}
}

func (m *message) varint(field int, value uint64) {
	m.tag(field, varint)
	m.b = binary.AppendUvarint(m.b, value)
}

func (m *message) fixed(field int, value uint64) {
	m.tag(field, fixed64)
	m.b = binary.LittleEndian.AppendUint64(m.b, value)
}

func (m *message) time(field int, at time.Time) { m.fixed(field, uint64(at.UnixNano())) }
