package anchor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Endpoint configures one beacon API. The URL is secret.
type Endpoint struct {
	Name    string
	URL     sanitize.Secret // without /eth/v1
	Timeout time.Duration   // of one request; zero means 20 s
}

// endpoint is a client of one beacon API. Its errors have no URL and no secret.
type endpoint struct {
	Endpoint
	http   *http.Client
	base   *url.URL
	agent  string
	redact sanitize.Redactor
}

func newEndpoint(e Endpoint, agent string) (*endpoint, error) {
	base, err := url.Parse(strings.TrimRight(e.URL.Reveal(), "/"))
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("beacon endpoint %s: invalid URL", e.Name)
	}
	e.Timeout = cmp.Or(e.Timeout, 20*time.Second)
	return &endpoint{
		Endpoint: e, base: base, agent: agent, redact: sanitize.NewRedactor(sanitize.URLParts(e.URL.Reveal())...),
		http: &http.Client{
			Transport: httpx.Transport(), Timeout: e.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (e *endpoint) bootstrap(ctx context.Context, root common.Hash) ([]byte, error) {
	return e.get(ctx, "bootstrap/"+root.Hex(), nil, consensus.MaxDocument)
}

// updatesAtOnce is the number of updates in one request. Servers may send fewer.
const updatesAtOnce = 16

func (e *endpoint) updates(ctx context.Context, period uint64) ([][]byte, error) {
	query := url.Values{"start_period": {fmt.Sprint(period)}, "count": {fmt.Sprint(updatesAtOnce)}}
	b, err := e.get(ctx, "updates", query, updatesAtOnce*consensus.MaxDocument)
	if err != nil {
		return nil, err
	}
	return consensus.SplitUpdates(b)
}

func (e *endpoint) finality(ctx context.Context) ([]byte, error) {
	return e.get(ctx, "finality_update", nil, consensus.MaxDocument)
}

// get fetches a document of at most limit bytes.
func (e *endpoint) get(ctx context.Context, what string, query url.Values, limit int) ([]byte, error) {
	b, err := e.try(ctx, what, query, limit)
	if err != nil {
		document, _, _ := strings.Cut(what, "/")
		return nil, e.redact.Error(fmt.Errorf("fetching light_client/%s: %w", document, err))
	}
	return b, nil
}

func (e *endpoint) try(ctx context.Context, what string, query url.Values, limit int) ([]byte, error) {
	u := e.base.JoinPath("/eth/v1/beacon/light_client/", what)
	values := u.Query()
	for k, v := range query {
		values[k] = v
	}
	u.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", e.agent)
	resp, err := e.http.Do(req)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // without the URL
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("HTTP status %d (redirects are refused)", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("HTTP status %d: %s", resp.StatusCode, sanitize.Quote(e.redact.Text(string(b))))
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case len(b) > limit:
		return nil, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return b, nil
}
