// Package api is the vocabulary of the HTTP API: the payloads of requests and
// answers, the codes of errors, and the OpenAPI document. Servers and clients
// share it, so that nothing is typed twice.
package api

import "fmt"

// Code says what went wrong, for programs.
type Code string

// The codes of errors. Each has one status: see the table in package server.
const (
	InvalidRequest     Code = "invalid_request"
	Unauthenticated    Code = "unauthenticated"
	Forbidden          Code = "forbidden"
	NotFound           Code = "not_found"
	MethodNotAllowed   Code = "method_not_allowed"
	Conflict           Code = "conflict"
	Busy               Code = "busy"
	Gone               Code = "gone"
	PreconditionFailed Code = "precondition_failed"
	TooLarge           Code = "too_large"
	UnsupportedMedia   Code = "unsupported_media_type"
	RangeInvalid       Code = "range_not_satisfiable"
	Unprocessable      Code = "unprocessable"
	LimitReached       Code = "limit_reached"
	ClientClosed       Code = "client_closed_request"
	Internal           Code = "internal"
	SandboxUnreachable Code = "sandbox_unreachable"
	Unavailable        Code = "unavailable"
	DeadlineExceeded   Code = "deadline_exceeded"
	DiskFull           Code = "disk_full"
)

// Error is what an answer says when a request failed.
type Error struct {
	Code    Code           `json:"code" api:"required"`
	Message string         `json:"message" api:"required"`
	Details map[string]any `json:"details,omitempty"` // such as the name of the wrong field
}

func (e *Error) Error() string { return e.Message }

// ErrorBody is the body of an answer whose status is 400 or more.
type ErrorBody struct {
	Error Error `json:"error" api:"required"`
}

// Errorf returns an error with a message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid returns the error of a request whose field, parameter or header is wrong.
// The message begins with its name, which is in the details, too.
func Invalid(field, format string, args ...any) *Error {
	return &Error{
		Code:    InvalidRequest,
		Message: field + ": " + fmt.Sprintf(format, args...),
		Details: map[string]any{"field": field},
	}
}
