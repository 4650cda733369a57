package kmsapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// MaxAppIDs is the most that NextAppIDs reserves at once.
const MaxAppIDs = 20

// AppID is an id that the API has reserved. Both go into the creation of an app.
type AppID struct {
	ID    string // as sent
	Nonce uint64
}

// NextAppIDs reserves ids of apps on the server, from 1 to MaxAppIDs. This is the one call with a side effect, behind
// a GET, so that it is sent once: neither 429 nor 503 nor a broken connection makes it be sent again. Where the error
// is no refusal, ids may have been reserved, which it says. The API may give another number than counts.
func (c *Client) NextAppIDs(ctx context.Context, counts int) ([]AppID, error) {
	if counts < 1 || counts > MaxAppIDs {
		return nil, fmt.Errorf("reserving %d app ids: want 1 to %d", counts, MaxAppIDs)
	}
	c.Close() // net/http repeats a GET by itself where a kept connection turns out to be broken
	var ids []AppID
	q := call{endpoint: nextAppIDs, path: "/kms/phala/next_app_id", query: url.Values{"counts": {strconv.Itoa(counts)}}, once: true}
	_, err := c.get(ctx, q, func(body string) (err error) {
		ids, err = decodeAppIDs(body, c.key)
		return err
	})
	if err != nil {
		if status, ok := errors.AsType[*StatusError](err); !ok || status.Status/100 != 4 {
			err = fmt.Errorf("%w; ids may have been reserved all the same", err)
		}
		return nil, c.all.Error(fmt.Errorf("reserving %d app ids: %w", counts, err))
	}
	return ids, nil
}

// decodeAppIDs reads the body of GET /kms/phala/next_app_id with the rules of Decode.
func decodeAppIDs(body string, key sanitize.Redactor) ([]AppID, error) {
	o := whole(body, key)
	var ids []AppID
	o.each("app_ids", func(o object) { ids = append(ids, AppID{o.required("app_id"), o.number("nonce")}) })
	if o.err != nil {
		return nil, o.err
	}
	return ids, nil
}
