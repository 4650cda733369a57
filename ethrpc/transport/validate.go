package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxBody bounds what one HTTP answer may hold, in bytes. A thousand answers take less than 200 kB.
const maxBody = 16 << 20

// validatingTransport stands between go-ethereum's JSON-RPC client and the network. It counts and limits requests, bounds what is
// read, and refuses answers that the client would overlook: a batch that is not exactly the one that was asked for,
// an answer to another id, an error object in place of a batch.
type validatingTransport struct {
	next    http.RoundTripper
	limiter *rate.Limiter
	redact  sanitize.Redactor
	observe func(took time.Duration)
}

func (g *validatingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	asked, err := idsOf(req)
	if err != nil {
		return nil, err
	}
	if err := g.limiter.Wait(req.Context()); err != nil {
		return nil, fmt.Errorf("waiting for requests_per_second: %w", err)
	}
	start := time.Now()
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		g.observe(time.Since(start))
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	resp.Body.Close()
	g.observe(time.Since(start))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, &statusError{resp.StatusCode, g.cut(body), httpx.RetryAfter(resp.Header, time.Now())}
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case len(body) > maxBody:
		return nil, errTooLong
	}
	if err := g.check(body, asked); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// message is what of a JSON-RPC message matters here.
type message struct {
	ID    json.RawMessage `json:"id"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// asked is what a request holds: the ids, and whether they went as a batch.
type asked struct {
	ids   map[string]bool
	batch bool
}

func idsOf(req *http.Request) (asked, error) {
	r, err := req.GetBody()
	if err != nil {
		return asked{}, err
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return asked{}, err
	}
	msgs, batch, err := decode(body)
	a := asked{ids: map[string]bool{}, batch: batch}
	for _, m := range msgs {
		a.ids[string(m.ID)] = true
	}
	return a, err
}

func decode(body []byte) (msgs []message, batch bool, err error) {
	body = bytes.TrimSpace(body)
	if bytes.HasPrefix(body, []byte("[")) {
		err = json.Unmarshal(body, &msgs)
		return msgs, true, err
	}
	msgs = make([]message, 1)
	err = json.Unmarshal(body, &msgs[0])
	return msgs, false, err
}

// check holds an answer against what was asked: every id once, nothing else, and each with a result or an error.
func (g *validatingTransport) check(body []byte, want asked) error {
	if !utf8.Valid(body) {
		return fmt.Errorf("the answer is no UTF-8, as JSON is: %s", g.cut(body))
	}
	msgs, batch, err := decode(body)
	switch {
	case err != nil:
		return fmt.Errorf("the answer is no JSON-RPC: %s", g.cut(body))
	case want.batch && !batch && msgs[0].Error != nil:
		return fmt.Errorf("%w: the provider answers with error %s", errBatchRefused, g.cut([]byte(msgs[0].Error.Message)))
	case want.batch != batch:
		return fmt.Errorf("a batch was answered by no batch, or the other way round: %s", g.cut(body))
	case len(msgs) != len(want.ids):
		return fmt.Errorf("%d calls were asked, %d answers came", len(want.ids), len(msgs))
	}
	seen := make(map[string]bool, len(msgs))
	for _, m := range msgs {
		id := string(m.ID)
		switch {
		case (id == "" || id == "null") && m.Error != nil:
			return fmt.Errorf("the provider answers with error %s", g.cut([]byte(m.Error.Message)))
		case id == "" || id == "null":
			return errors.New("an answer has no id")
		case !want.ids[id]:
			return fmt.Errorf("an answer has the id %s, which was not asked", sanitize.Quote(id))
		case seen[id]:
			return fmt.Errorf("two answers have the id %s", sanitize.Quote(id))
		}
		seen[id] = true
	}
	return nil
}

// cut makes a body fit for an error message.
func (g *validatingTransport) cut(body []byte) string {
	// Secrets go before the cut, so that none is left in part.
	text := strings.TrimSpace(g.redact.Text(string(body)))
	if text == "" {
		return ""
	}
	return sanitize.Quote(text)
}
