package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	beatTimeout = 10 * time.Second
	maxBeat     = 64 << 10 // bytes of a response that are read, so that the connection can be reused
)

// heartbeat queues a ping of the configured URL after an audit. If a ping is already queued, it counts for this audit too.
func (d *Daemon) heartbeat(c config.Heartbeat, v audit.Verdict) {
	if c.URL.Empty() || c.On == "consistent" && v != audit.Consistent {
		return
	}
	select {
	case d.heartbeats <- c.URL:
	default:
	}
}

// sendHeartbeats sends queued heartbeats one at a time until ctx ends. It never delays an audit.
func (d *Daemon) sendHeartbeats(ctx context.Context) {
	client := &http.Client{
		Transport: httpx.Transport(),
		// A redirect would leak the URL in the Referer header.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case url := <-d.heartbeats:
			err := d.sendHeartbeat(ctx, client, url.Reveal())
			if ctx.Err() != nil {
				return
			}
			d.metrics.Heartbeat(err == nil)
			if err != nil {
				d.opt.Log.Warn("heartbeat failed", zap.Error(err))
			}
		}
	}
}

// sendHeartbeat pings the URL. Its error does not contain the URL.
func (d *Daemon) sendHeartbeat(ctx context.Context, client *http.Client, to string) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return errors.New("the URL is not valid")
	}
	req.Header.Set("User-Agent", "kms-auditor/"+d.opt.Build.Version)
	resp, err := client.Do(req)
	if err != nil {
		if asked, ok := errors.AsType[*url.Error](err); ok {
			err = asked.Err // without the URL
		}
		return errors.New(sanitize.Plain(sanitize.NewRedactor(sanitize.URLParts(to)...).Text(err.Error())))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the response has status %d", resp.StatusCode)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBeat)); err != nil {
		return errors.New("the response was truncated")
	}
	return nil
}
