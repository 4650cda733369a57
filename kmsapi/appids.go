package kmsapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
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
	q := call{endpoint: nextAppIDs, path: "/kms/phala/next_app_id", query: url.Values{"counts": {strconv.Itoa(counts)}}, once: true}
	ids, _, err := fetch(ctx, c, q, object.appIDs)
	if err != nil {
		if status, ok := errors.AsType[*StatusError](err); !ok || status.Status/100 != 4 {
			err = fmt.Errorf("%w; ids may have been reserved all the same", err)
		}
		return nil, c.all.Error(fmt.Errorf("reserving %d app ids: %w", counts, err))
	}
	return ids, nil
}

// appIDs is the body of GET /kms/phala/next_app_id.
func (o object) appIDs() []AppID {
	return list(o, "app_ids", func(o object) AppID { return AppID{o.required("app_id"), o.number("nonce")} })
}
