package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxBody bounds one HTTP answer, in bytes. A thousand answers to eth_call take less than 200 kB.
const maxBody = 16 << 20

// request is a JSON-RPC request object.
type request struct {
	Version string `json:"jsonrpc"`
	ID      uint64 `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params,omitempty"`
}

// message is a JSON-RPC response object.
type message struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    errorCode `json:"code"`
		Message string    `json:"message"`
	} `json:"error"`
}

// errorCode is 0 if a provider sends something other than an integer.
type errorCode int

func (c *errorCode) UnmarshalJSON(raw []byte) error {
	_ = json.Unmarshal(raw, (*int)(c))
	return nil
}

// exchange sends the calls in one HTTP request and returns their answers.
func (c *Client) exchange(ctx context.Context, calls []*Call) ([]message, error) {
	requests, places := make([]request, len(calls)), make(map[string]int, len(calls))
	for i, call := range calls {
		requests[i] = request{"2.0", c.lastID.Add(1), call.Method, call.Args}
		places[strconv.FormatUint(requests[i].ID, 10)] = i
	}
	var content any = requests
	if len(calls) == 1 { // some providers refuse any array
		content = requests[0]
	}
	body, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = c.headers.Clone()
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, fmt.Errorf("waiting for requests_per_second: %w", err)
	}
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		c.Observer.RoundTrip(c.Name, time.Since(start))
		return nil, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	resp.Body.Close()
	c.Observer.RoundTrip(c.Name, time.Since(start))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, &statusError{resp.StatusCode, c.cut(body), httpx.RetryAfter(resp.Header, time.Now())}
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case len(body) > maxBody:
		return nil, errTooLong
	}
	return c.check(body, places)
}

// check validates an answer: it must have exactly one message for every id, in a batch if there are several ids. It returns the
// messages at the places of their ids.
func (c *Client) check(body []byte, places map[string]int) (out []message, err error) {
	if !utf8.Valid(body) {
		return nil, fmt.Errorf("the answer is not UTF-8: %s", c.cut(body))
	}
	msgs, asked, batch := make([]message, 1), len(places) > 1, bytes.HasPrefix(bytes.TrimSpace(body), []byte("["))
	if batch {
		err = json.Unmarshal(body, &msgs)
	} else {
		err = json.Unmarshal(body, &msgs[0])
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer is not JSON-RPC: %s", c.cut(body))
	case asked && !batch && msgs[0].Error != nil:
		return nil, fmt.Errorf("%w: the provider answers with error %s", errBatchRefused, c.cut([]byte(msgs[0].Error.Message)))
	case asked != batch:
		return nil, fmt.Errorf("a batch was answered with a single message, or a single call with a batch: %s", c.cut(body))
	case len(msgs) != len(places):
		return nil, fmt.Errorf("%d calls got %d answers", len(places), len(msgs))
	}
	out = make([]message, len(places))
	for _, m := range msgs {
		id := string(m.ID)
		i, known := places[id]
		switch {
		case (id == "" || id == "null") && m.Error != nil:
			return nil, fmt.Errorf("the provider answers with error %s", c.cut([]byte(m.Error.Message)))
		case id == "" || id == "null":
			return nil, errors.New("an answer has no id")
		case !known:
			return nil, fmt.Errorf("an answer has the unknown id %s", sanitize.Quote(id))
		case out[i].ID != nil:
			return nil, fmt.Errorf("two answers have the id %s", sanitize.Quote(id))
		}
		out[i] = m
	}
	return out, nil
}

// cut makes a body safe for an error message.
func (c *Client) cut(body []byte) string {
	// Redact before cutting, so that no part of a secret is left.
	text := strings.TrimSpace(c.redact.Text(string(body)))
	if text == "" {
		return ""
	}
	return sanitize.Quote(text)
}

// ErrNull reports an answer that is null.
var ErrNull = errors.New("the answer is null")

var errNoHex = errors.New("the answer is an empty string, want hex data")

// Quantity is a JSON-RPC QUANTITY. Unlike hexutil, it does not accept an empty string for 0.
type Quantity uint64

func (q *Quantity) UnmarshalJSON(raw []byte) error {
	if string(raw) == `""` {
		return errNoHex
	}
	return (*hexutil.Uint64)(q).UnmarshalJSON(raw)
}

// Bytes returns the answer, decoded from a JSON string of hex. Null is ErrNull.
func (c *Call) Bytes() ([]byte, error) {
	if c.Err != nil {
		return nil, c.Err
	}
	var b *hexutil.Bytes
	if err := json.Unmarshal(c.Result, &b); err != nil {
		return nil, fmt.Errorf("the answer is not hex data: %w", err)
	}
	if b == nil {
		return nil, ErrNull
	}
	if len(*b) == 0 && string(c.Result) != `"0x"` { // hexutil accepts an empty string for no bytes
		return nil, errNoHex
	}
	return *b, nil
}
