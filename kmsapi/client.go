// Package kmsapi asks Phala Cloud's API what it claims about the KMS contracts of a chain, and which KMS there are.
//
// One careful GET (client.go) fetches the body, wire.go turns it into typed values or says what is wrong with it, kms.go puts
// the pages of a list together and reserves ids of apps, and errors.go turns refusals into errors that carry neither the key
// nor the URL.
package kmsapi

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	maxBody = 8 << 20 // of an answer, after decompression
	tries   = 3
)

// Endpoints lists every endpoint that is passed to Options.Observe.
var Endpoints = []string{onChainDetail, kmsList, kmsInfo, nextAppIDs}

const (
	onChainDetail = "on_chain_detail"
	kmsList       = "kms_list"
	kmsInfo       = "kms_info"
	nextAppIDs    = "next_app_ids"
)

// Options configure a Client.
type Options struct {
	BaseURL    string            // such as https://cloud-api.phala.com/api/v1; userinfo and query are kept, and secret
	Version    string            // header X-Phala-Version; empty: not sent
	Key        sanitize.Secret   // header X-API-Key; empty: not sent
	Timeout    time.Duration     // of one request, its body included; zero: 30 s
	UserAgent  string            // empty: kms-auditor
	RetryDelay time.Duration     // before the second try, where the API names no delay; doubles; zero: 1 s
	Transport  http.RoundTripper // nil: an own clone of the default one

	// Observe is called after every HTTP request, with one of Endpoints and one of Results. It is optional.
	Observe func(endpoint, result string, took time.Duration)
}

// Source is the evidence of one answer.
type Source struct {
	FetchedAt  time.Time         // when the body was complete, UTC
	SHA256     string            // of Body, in hex
	APIVersion string            // the version that was asked for
	RequestID  string            // as the API gave it, cut
	Body       string            // as received (after decompression): not redacted
	HoldsKey   bool              // the API echoes the key: Body is not to be kept
	Header     map[string]string // those of keptHeaders that came, cut
}

// Client asks one API. It is safe for concurrent use.
type Client struct {
	o    Options
	base *url.URL
	key  sanitize.Redactor // for the body: nothing but the key, so that no part of an id is ever masked
	all  sanitize.Redactor // for errors
	last sync.Map          // *OnChainDetail by chain: an answer that is the same to the byte is not decoded again
}

// New checks o; it sends nothing.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("reading the API's base URL: want http:// or https://, a host and maybe a path")
	}
	if !visible(o.Key.Reveal()) {
		return nil, errors.New("reading the API's key: it has white space or other characters that a header cannot carry")
	}
	if !visible(o.Version) {
		return nil, fmt.Errorf("reading the API's version: %s cannot stand in a header", sanitize.Quote(o.Version))
	}
	base.Path, base.RawPath, base.Fragment = strings.TrimRight(base.Path, "/"), strings.TrimRight(base.RawPath, "/"), ""
	o.Timeout = cmp.Or(max(o.Timeout, 0), 30*time.Second)
	o.RetryDelay = cmp.Or(max(o.RetryDelay, 0), time.Second)
	o.UserAgent = cmp.Or(o.UserAgent, "kms-auditor")
	if o.Transport == nil {
		o.Transport = httpx.Transport()
	}
	if o.Observe == nil {
		o.Observe = func(string, string, time.Duration) {}
	}
	secrets := []string{o.Key.Reveal(), base.RawQuery}
	if base.User != nil {
		pass, _ := base.User.Password()
		secrets = append(secrets, base.User.String(), base.User.Username(), pass)
	}
	for _, vs := range base.Query() {
		secrets = append(secrets, vs...)
	}
	return &Client{o: o, base: base, key: sanitize.NewRedactor(o.Key.Reveal()), all: sanitize.NewRedactor(secrets...)}, nil
}

func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Close closes idle connections. The client stays usable.
func (c *Client) Close() { (&http.Client{Transport: c.o.Transport}).CloseIdleConnections() }

// OnChainDetail fetches what the API claims about the chain. Errors carry no secret; errors.As finds
// a *StatusError where the API refused and an *InvalidError where its answer cannot be used.
func (c *Client) OnChainDetail(ctx context.Context, chain string) (*OnChainDetail, error) {
	known, _ := c.last.Load(chain)
	last, _ := known.(*OnChainDetail)
	var d *OnChainDetail
	q := call{endpoint: onChainDetail, path: "/kms/on-chain/", name: chain}
	if last != nil {
		q.last = last.Source
	}
	src, err := c.get(ctx, q, func(body string) (err error) {
		if last != nil && body == last.Source.Body {
			again := *last
			d = &again
			return nil
		}
		d, err = decode(body, c.key, object.detail)
		return err
	})
	if err != nil {
		return nil, c.all.Error(fmt.Errorf("fetching the on-chain detail of %s: %w", sanitize.Plain(chain), err))
	}
	d.Source = src
	c.last.Store(chain, d)
	return d, nil
}

// call says what to ask for.
type call struct {
	endpoint string // one of Endpoints
	path     string
	name     string // the last element, where path ends in a slash; from outside
	query    url.Values
	once     bool   // asked once, whatever the answer
	last     Source // the answer before: one with the same body shares it
}

func (c *Client) locate(q call) (*url.URL, error) {
	if strings.HasSuffix(q.path, "/") && (q.name == "" || q.name == "." || q.name == "..") {
		return nil, fmt.Errorf("%s cannot stand in a path", sanitize.Quote(q.name))
	}
	u := *c.base
	u.Path, u.RawPath = c.base.Path+q.path+q.name, c.base.EscapedPath()+q.path+url.PathEscape(q.name)
	u.RawQuery = strings.Trim(c.base.RawQuery+"&"+q.query.Encode(), "&")
	return &u, nil
}

// fetch asks, and reads the answer.
func fetch[T any](ctx context.Context, c *Client, q call, read func(object) T) (out T, src Source, err error) {
	src, err = c.get(ctx, q, func(body string) (err error) {
		out, err = decode(body, c.key, read)
		return err
	})
	return out, src, err
}

// get asks until there is an answer that may not pass by itself, at most tries times.
func (c *Client) get(ctx context.Context, q call, decode func(string) error) (Source, error) {
	u, err := c.locate(q)
	if err != nil {
		return Source{}, err
	}
	delay := c.o.RetryDelay
	for try := 1; ; try++ {
		start := time.Now()
		src, err := c.try(ctx, u, &q.last, decode)
		c.o.Observe(q.endpoint, result(err), time.Since(start))
		status, refused := errors.AsType[*StatusError](err)
		if !refused || !status.passing() || q.once {
			return src, err
		}
		if try == tries {
			return src, fmt.Errorf("%w (%d tries)", err, tries)
		}
		if err := httpx.Pause(ctx, cmp.Or(status.RetryAfter, delay), err); err != nil {
			return src, err
		}
		delay *= 2
	}
}

// try is one HTTP request within the timeout.
func (c *Client) try(parent context.Context, u *url.URL, last *Source, decode func(string) error) (Source, error) {
	ctx, cancel := context.WithTimeout(parent, c.o.Timeout)
	defer cancel()
	src, err := c.exchange(ctx, u, last, decode)
	switch {
	case !errors.Is(err, context.DeadlineExceeded):
		return src, err
	case parent.Err() != nil:
		return src, fmt.Errorf("no answer in the time that was left: %w", err)
	default:
		return src, fmt.Errorf("no answer within %s: %w", c.o.Timeout, err)
	}
}

// exchange uses the transport and not http.Client, which would follow redirects and put the URL into its errors.
func (c *Client) exchange(ctx context.Context, u *url.URL, last *Source, decode func(string) error) (Source, error) {
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.o.UserAgent)
	if c.o.Version != "" {
		req.Header.Set("X-Phala-Version", c.o.Version)
	}
	if !c.o.Key.Empty() {
		req.Header.Set("X-API-Key", c.o.Key.Reveal())
	}
	if u.User != nil {
		pass, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), pass)
	}
	resp, err := c.o.Transport.RoundTrip(req)
	if err != nil {
		return Source{}, fmt.Errorf("calling the API: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Source{}, c.refusal(resp)
	}
	contentType := resp.Header.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(contentType); err != nil || t != "application/json" && !strings.HasSuffix(t, "+json") {
		return Source{}, &InvalidError{Reason: "content type " + sanitize.Quote(c.all.Text(contentType)) + ", want JSON"}
	}
	limited := bufio.NewReaderSize(io.LimitReader(resp.Body, maxBody+1), len(last.Body)+1)
	raw, err := limited.Peek(len(last.Body) + 1)
	if err == nil { // it is longer than the last
		raw, err = io.ReadAll(limited)
	}
	switch {
	case err != nil && err != io.EOF:
		return Source{}, fmt.Errorf("reading the API's answer: %w", err)
	case len(raw) > maxBody:
		return Source{}, &InvalidError{Reason: "body over 8 MiB"}
	}
	body, digest := last.Body, last.SHA256
	if string(raw) != body {
		sum := sha256.Sum256(raw)
		body, digest = string(raw), hex.EncodeToString(sum[:])
	}
	src := Source{
		FetchedAt:  time.Now().UTC(),
		SHA256:     digest,
		APIVersion: c.o.Version,
		RequestID:  c.text(resp.Header.Get("X-Request-ID")),
		Body:       body,
		HoldsKey:   c.key.Text(body) != body,
		Header:     map[string]string{},
	}
	for _, name := range keptHeaders {
		if v := resp.Header.Get(name); v != "" {
			src.Header[name] = c.text(v)
		}
	}
	return src, decode(body)
}

// text makes a text of the API fit to be shown.
func (c *Client) text(s string) string { return sanitize.Plain(c.all.Text(s)) }

// keptHeaders tell how old an answer is and where it comes from. No other is kept, since a cookie is a secret.
var keptHeaders = []string{"Age", "Cache-Control", "Content-Type", "Date", "Etag", "Last-Modified", "Server", "Via", "X-Request-Id"}
