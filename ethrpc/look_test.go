package ethrpc_test

import (
	"context"
	"errors"
	"slices"

	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// request is a pin and a read.
type request struct {
	ethrpc.PinRequest
	ethrpc.ReadOptions
	queries []ethrpc.Query
	between func() // called between pin and read
}

// result is the result of look.
type result struct {
	ethrpc.Reading // of the first contract
	at             *ethrpc.Pinned
	state          *ethrpc.State
	failed         []ethrpc.ProviderError // in the order in which they were tried
}

// look pins and reads as an audit does: if no provider has a block's state, it tries the next tag. It also returns the error of
// the first reading.
func look(ctx context.Context, c *ethrpc.Client, req request) (*result, error) {
	at, err := c.Pin(ctx, req.PinRequest)
	if err != nil {
		return nil, err
	}
	if req.between != nil {
		req.between()
	}
	s, err := c.Read(ctx, at, req.queries, req.ReadOptions)
	if next := slices.Index(req.Tags, at.Tag) + 1; errors.Is(err, ethrpc.ErrNoState) && next > 0 && next < len(req.Tags) {
		req.Tags = req.Tags[next:]
		return look(ctx, c, req)
	}
	if err != nil {
		return nil, err
	}
	r := &result{at: at, state: s, failed: slices.Concat(at.Failed, s.Failed)}
	if len(s.Readings) > 0 {
		r.Reading = s.Readings[0]
		r.failed = append(r.failed, r.Failed...)
	}
	return r, r.Err
}
