package kmsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
)

// Outcomes of an HTTP request.
const (
	ResultOK           = "ok"
	ResultUnauthorized = "unauthorized"  // 401, 403
	ResultRateLimited  = "rate_limited"  // 429
	ResultClientError  = "client_error"  // every other 4xx
	ResultServerError  = "server_error"  // 5xx
	ResultInvalid      = "invalid"       // a response that cannot be used, including redirects
	ResultNetworkError = "network_error" // no complete response
	ResultTimeout      = "timeout"       // no complete response in time
	ResultCanceled     = "canceled"      // the caller gave up
)

// Results lists every result that is passed to Options.Observe.
var Results = []string{
	ResultOK, ResultUnauthorized, ResultRateLimited, ResultClientError, ResultServerError,
	ResultInvalid, ResultNetworkError, ResultTimeout, ResultCanceled,
}

// InvalidError is a response with status 200 that cannot be used.
type InvalidError struct {
	Path   string // of the JSON value, such as contracts[0].devices[2].device_id; empty for the whole body
	Reason string // untrusted text is quoted and truncated
}

func (e *InvalidError) Error() string {
	return "the API's answer cannot be used: " + strings.TrimPrefix(e.Path+": "+e.Reason, ": ")
}

// InconsistentPagesError means that pages do not form one list. The list may have changed while it was read.
type InconsistentPagesError struct {
	Page   int    // the first page that does not fit, from 1
	Reason string // untrusted text is quoted and truncated
}

func (e *InconsistentPagesError) Error() string {
	return fmt.Sprintf("the pages of the list are inconsistent: page %d: %s", e.Page, e.Reason)
}

func isInconsistent(err error) bool { return errors.As(err, new(*InconsistentPagesError)) }

// StatusError is a response with a status other than 200. Its texts are redacted, printable and truncated.
type StatusError struct {
	Status     int
	Code       string // error_code of the body
	Message    string // from the body
	RequestID  string
	RetryAfter time.Duration // zero if not given
}

func (e *StatusError) Error() string {
	s := strings.TrimSpace(fmt.Sprintln("the API answered", e.Status, http.StatusText(e.Status)))
	for _, more := range []struct {
		given bool
		text  string
	}{
		{e.redirect(), ": redirects are not followed"},
		{e.Code != "", fmt.Sprintf(", code %q", e.Code)},
		{e.Message != "", fmt.Sprintf(": %q", e.Message)},
		{e.unauthorized(), "; the key is missing or refused: see api.api_key_env and api.api_key_file"},
		{e.RequestID != "", fmt.Sprintf(" (request id %q)", e.RequestID)},
	} {
		if more.given {
			s += more.text
		}
	}
	return s
}

// Unknown reports whether the API does not know the requested thing, such as a chain.
func (e *StatusError) Unknown() bool { return e.Status == 400 || e.Status == 404 || e.Status == 422 }

func (e *StatusError) redirect() bool { return e.Status/100 == 3 }

func (e *StatusError) unauthorized() bool { return e.Status == 401 || e.Status == 403 }

// isTransient reports whether the same request may succeed a little later.
func (e *StatusError) isTransient() bool { return e.Status == 429 || e.Status == 503 }

func result(err error) string {
	status, refused := errors.AsType[*StatusError](err)
	_, invalid := errors.AsType[*InvalidError](err)
	network, failed := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return ResultOK
	case refused && status.unauthorized():
		return ResultUnauthorized
	case refused && status.Status == 429:
		return ResultRateLimited
	case refused && status.Status/100 == 4:
		return ResultClientError
	case refused && status.Status/100 == 5:
		return ResultServerError
	case refused || invalid || isInconsistent(err):
		return ResultInvalid
	case errors.Is(err, context.Canceled):
		return ResultCanceled
	case failed && network.Timeout():
		return ResultTimeout
	default:
		return ResultNetworkError
	}
}

// refusal reads a response whose status is not 200. A truncated body is used as far as it goes.
func (c *Client) refusal(resp *http.Response) *StatusError {
	e := &StatusError{
		Status:     resp.StatusCode,
		RequestID:  resp.Header.Get("X-Request-ID"),
		RetryAfter: httpx.RetryAfter(resp.Header, time.Now()),
	}
	if !e.redirect() {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		e.explain(body)
		if e.Code == "" {
			e.Message = cmp.Or(e.Message, string(body))
		}
	}
	e.Code, e.Message, e.RequestID = c.text(e.Code), c.text(e.Message), c.text(e.RequestID)
	return e
}

// explain reads the API's three error bodies: {"detail": str}, {"detail": [{loc, msg, type}]},
// and {error_code, message, request_id, …}, also as the detail.
func (e *StatusError) explain(body []byte) {
	var fields map[string]any
	_ = json.Unmarshal(body, &fields)
	if detail, given := fields["detail"]; given {
		if e.Message = cmp.Or(as[string](detail), complaints(detail)); e.Message != "" {
			return
		}
		fields = as[map[string]any](detail)
	}
	e.Code, e.Message = as[string](fields["error_code"]), as[string](fields["message"])
	e.RequestID = cmp.Or(e.RequestID, as[string](fields["request_id"]))
}

// complaints joins the rows of a validation error, such as "path.chain: field required".
func complaints(detail any) string {
	var all []string
	for _, row := range as[[]any](detail) {
		fields := as[map[string]any](row)
		var at []string
		for _, l := range as[[]any](fields["loc"]) {
			at = append(at, fmt.Sprint(l))
		}
		if msg := as[string](fields["msg"]); msg != "" {
			all = append(all, strings.TrimPrefix(strings.Join(at, ".")+": "+msg, ": "))
		}
	}
	return strings.Join(all, "; ")
}

// as returns v, or the zero value if v has another type.
func as[T any](v any) T {
	t, _ := v.(T)
	return t
}
