package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// page is how long the daemon takes to serve one of its pages, from the request to the last byte.
type page struct {
	path        string
	gzip        bool
	bytes       int // as they are sent, without headers
	median, p99 time.Duration
}

const looks = 100

// visits asks the daemon for its pages, one after the other on one connection.
func visits(ctx context.Context, url string) (pages []page, err error) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/metrics", "/"} {
		for _, gzip := range []bool{false, true} {
			p := page{path: path, gzip: gzip}
			var took []time.Duration
			for range looks {
				began := time.Now()
				if p.bytes, err = fetch(ctx, client, url+path, nil, gzip); err != nil {
					return nil, err
				}
				took = append(took, time.Since(began))
			}
			p.median, p.p99 = medianOf(took), quantileOf(took, 0.99)
			pages = append(pages, p)
		}
	}
	return pages, nil
}

// fetch sends a request, by POST where it has a body, reads the answer to its end and returns how long it is.
func fetch(ctx context.Context, client *http.Client, url string, body io.Reader, gzip bool) (int, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if gzip {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", req.URL.Path, resp.Status)
	}
	return int(n), err
}
