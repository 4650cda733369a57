// Package kmsapi reads from Phala Cloud's API what it claims about the KMS contracts of a chain, and the list of KMS.
//
// client.go fetches a body with one bounded GET. wire.go decodes it strictly. kms.go joins the pages of a list and reserves app
// ids. errors.go turns error responses into errors that contain neither the key nor the URL.
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
	maxBody = 8 << 20 // bytes of a response after decompression
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
	BaseURL    string            // such as https://cloud-api.phala.com/api/v1; userinfo and query are sent, and treated as secret
	Version    string            // header X-Phala-Version; optional
	Key        sanitize.Secret   // header X-API-Key; optional
	Timeout    time.Duration     // of one request including its body; default 30 s
	UserAgent  string            // default kms-auditor
	RetryDelay time.Duration     // before the second try, unless the API gives a delay; doubles; default 1 s
	Transport  http.RoundTripper // default: a clone of http.DefaultTransport

	// Observe is called after every HTTP request, with one of Endpoints and one of Results. It is optional.
	Observe func(endpoint, result string, took time.Duration)
}

// Source is the evidence of one response.
type Source struct {
	FetchedAt  time.Time         // when the body was complete, UTC
	SHA256     string            // of Body, in hex
	APIVersion string            // the requested version
	RequestID  string            // as the API gave it, truncated
	Body       string            // as received (after decompression): not redacted
	HoldsKey   bool              // Body contains the key, so it must not be stored
	Header     map[string]string // those of keptHeaders that were present, truncated
}

// Client reads one API. It is safe for concurrent use.
type Client struct {
	o    Options
	base *url.URL
	key  sanitize.Redactor // for bodies: only the key, so that no part of an id is masked
	all  sanitize.Redactor // for errors
	last sync.Map          // *OnChainDetail by chain, to skip decoding an identical body
}

// New checks o. It does not connect.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("reading the API's base URL: want http:// or https://, a host, and an optional path")
	}
	if !visible(o.Key.Reveal()) {
		return nil, errors.New("reading the API's key: it contains white space or other characters that are not allowed in a header")
	}
	if !visible(o.Version) {
		return nil, fmt.Errorf("reading the API's version: %s contains characters that are not allowed in a header", sanitize.Quote(o.Version))
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

// OnChainDetail fetches the API's claim about a chain. Errors contain no secret. An error status is a *StatusError, a response
// that cannot be used is an *InvalidError.
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

// call describes a request.
type call struct {
	endpoint string // one of Endpoints
	path     string
	name     string // untrusted last element, if path ends in a slash
	query    url.Values
	once     bool   // never retried
	last     Source // the previous response, whose body is shared if unchanged
}

func (c *Client) locate(q call) (*url.URL, error) {
	if strings.HasSuffix(q.path, "/") && (q.name == "" || q.name == "." || q.name == "..") {
		return nil, fmt.Errorf("%s is not allowed in a path", sanitize.Quote(q.name))
	}
	u := *c.base
	u.Path, u.RawPath = c.base.Path+q.path+q.name, c.base.EscapedPath()+q.path+url.PathEscape(q.name)
	u.RawQuery = strings.Trim(c.base.RawQuery+"&"+q.query.Encode(), "&")
	return &u, nil
}

// fetch sends the request and decodes the response.
func fetch[T any](ctx context.Context, c *Client, q call, read func(object) T) (out T, src Source, err error) {
	src, err = c.get(ctx, q, func(body string) (err error) {
		out, err = decode(body, c.key, read)
		return err
	})
	return out, src, err
}

// get sends the request, at most tries times while the error is transient.
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
		if !refused || !status.isTransient() || q.once {
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
		return src, fmt.Errorf("no answer in the remaining time: %w", err)
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
	if err == nil { // longer than the previous body
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

// text redacts a text from the API and makes it printable.
func (c *Client) text(s string) string { return sanitize.Plain(c.all.Text(s)) }

// keptHeaders show the age and origin of a response. No others are kept, since a cookie is a secret.
var keptHeaders = []string{"Age", "Cache-Control", "Content-Type", "Date", "Etag", "Last-Modified", "Server", "Via", "X-Request-Id"}
