package kmsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// KMS is one KMS as the API describes it. Up to version 2026-05-22 the API describes nodes, and several of them may
// have one contract; from 2026-06-23 on it describes contracts. What the version has no word for, or the API leaves
// out, is empty. Texts are as sent, however long or odd, but for the key, which is masked.
type KMS struct {
	ID          string
	Slug        string
	Label       string          // from 2026-06-23
	URL         string          // of the node; up to 2026-05-22
	Version     string          // of the node; up to 2026-05-22
	ChainID     uint64          // 0: off chain
	Contract    *common.Address // nil: off chain, or on a chain and without a contract that the API knows
	K256Pubkey  string
	CAPubkey    string
	PerContract bool   // described as a contract (from 2026-06-23), not as a node
	NodeCount   uint64 // of the contract; from 2026-06-23

	// GatewayAppID is a free text, with or without 0x. Where it is empty and HasGatewayAppID set, the API has the field
	// and nothing in it: null or "".
	GatewayAppID    string
	HasGatewayAppID bool
}

// Info fetches what the API says of one KMS, by id or slug. Errors are as those of OnChainDetail.
func (c *Client) Info(ctx context.Context, idOrSlug string) (KMS, error) {
	k, _, err := fetch(ctx, c, call{endpoint: kmsInfo, path: "/kms/", name: idOrSlug}, object.kms)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusNotFound {
		err = fmt.Errorf("the API knows no such KMS: %w", err)
	}
	if err != nil {
		return KMS{}, c.all.Error(fmt.Errorf("fetching the KMS %s: %w", sanitize.Plain(idOrSlug), err))
	}
	return k, nil
}

// kms is the body of GET /kms/{kms_id}, of any version, and a row of the list. It tells the two shapes apart by the name of
// the contract's field, since the API may serve another version than the one that was asked for.
func (o object) kms() KMS {
	k := KMS{
		ID:         o.required("id"),
		Slug:       o.optional("slug"),
		K256Pubkey: o.optional("k256_pubkey"),
		CAPubkey:   o.optional("ca_pubkey"),
	}
	_, k.HasGatewayAppID = o.fields["gateway_app_id"]
	k.GatewayAppID = o.optional("gateway_app_id")
	if _, node := o.fields["kms_contract_address"]; node {
		k.URL, k.Version = o.required("url"), o.required("version")
		if kind(o.fields["chain_id"]) != "null" {
			k.ChainID = o.number("chain_id")
		}
		k.Contract = o.contractOf("kms_contract_address", k.ChainID)
		return k
	}
	k.PerContract = true
	k.Label = o.optional("label")
	o.value("contract_address")
	k.ChainID, k.NodeCount = o.number("chain_id"), o.number("node_count")
	k.Contract = o.contractOf("contract_address", k.ChainID)
	return k
}

// contractOf reads the address of a contract, which must be bound to a chain.
func (o object) contractOf(name string, chainID uint64) *common.Address {
	switch s := o.optional(name); {
	case s == "", s == "phala" && chainID == 0:
		return nil
	case chainID == 0:
		o.fail(o.at("chain_id"), "missing, where "+name+" is "+sanitize.Quote(s))
		return nil
	default:
		a := o.address(name)
		return &a
	}
}

const (
	pageSize = 100 // the most that the API gives
	maxPages = 100
)

// Filter narrows a list. The zero value asks for every KMS.
type Filter struct {
	OnChain bool // only those with a contract on a chain
}

// List is the answer of GET /kms, all pages of it.
type List struct {
	KMS   []KMS    // in the API's order, each id once
	Pages []Source // one a page, never none
}

// List fetches every page of the list of KMS. The API gives no snapshot: where pages do not fit together, it is read
// once more from the start, and a second time is an error with a *TornError. Otherwise errors are as those of
// OnChainDetail.
func (c *Client) List(ctx context.Context, f Filter) (*List, error) {
	l, err := c.list(ctx, f)
	if isTorn(err) {
		if err = httpx.Pause(ctx, c.o.RetryDelay, err); err == nil {
			l, err = c.list(ctx, f)
		}
		if isTorn(err) {
			err = fmt.Errorf("%w (read twice)", err)
		}
	}
	if err != nil {
		return nil, c.all.Error(fmt.Errorf("fetching the list of KMS: %w", err))
	}
	return l, nil
}

func (c *Client) list(ctx context.Context, f Filter) (*List, error) {
	l, all := &List{}, listing{}
	for all.more() {
		n := len(l.Pages) + 1
		q := url.Values{"page": {strconv.Itoa(n)}, "page_size": {strconv.Itoa(pageSize)}}
		if f.OnChain {
			q.Set("is_onchain", "true")
		}
		src, err := c.get(ctx, call{endpoint: kmsList, path: "/kms", query: q}, func(body string) error { return all.add(body, c.key) })
		if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusNotFound && n > 1 {
			return nil, fmt.Errorf("%w: %w", &TornError{n, "gone"}, err)
		}
		if err != nil {
			return nil, err
		}
		l.Pages = append(l.Pages, src)
	}
	l.KMS = all.kms
	return l, nil
}

// DecodeList reads the bodies of all pages of GET /kms, of any version, with the rules of Decode. Pages that do not
// make one list are a *TornError; every other error is an *InvalidError.
func DecodeList(bodies ...[]byte) ([]KMS, error) {
	var all listing
	for _, body := range bodies {
		if err := all.add(string(body), sanitize.Redactor{}); err != nil {
			return nil, err
		}
	}
	if all.more() {
		return nil, &TornError{all.pages + 1, "missing"}
	}
	return all.kms, nil
}

// listing is the pages so far, put together.
type listing struct {
	kms   []KMS
	at    map[string]place
	pages int
	bytes int
	total uint64 // KMS
	size  uint64 // of a page
	last  uint64 // page
}

// place says where a KMS stands in a listing.
type place struct{ page, index int }

func (l *listing) more() bool { return l.pages == 0 || uint64(l.pages) < l.last }

// add takes the next page.
func (l *listing) add(body string, key sanitize.Redactor) error {
	o := whole(body, key)
	total, page, size, pages := o.number("total"), o.number("page"), o.number("page_size"), o.number("pages")
	items := list(o, "items", object.kms)
	if l.bytes += len(body); l.bytes > maxBody {
		o.fail("", "pages over 8 MiB together")
	}
	if o.err != nil {
		return o.err
	}
	if l.pages++; l.pages == 1 {
		if size == 0 || size > pageSize {
			return &InvalidError{"page_size", fmt.Sprintf("%d, want 1 to %d", size, pageSize)}
		}
		l.total, l.size, l.last = total, size, total/size+min(total%size, 1)
		l.at = map[string]place{}
	}
	n := uint64(l.pages)
	want := min(l.size, l.total-min(l.total, (n-1)*l.size))
	switch {
	case l.last > maxPages:
		return &InvalidError{"total", fmt.Sprintf("%d, and no more than %d pages of %d are read", total, maxPages, size)}
	case total != l.total || size != l.size:
		return l.torn("it is of %d with %d a page, the first page of %d with %d", total, size, l.total, l.size)
	case page != n:
		return l.torn("it says that it is page %d", page)
	case pages != l.last && (total > 0 || pages > 1):
		return l.torn("it says that there are %d pages, but %d with %d a page make %d", pages, total, size, l.last)
	case n > max(l.last, 1):
		return l.torn("there are only %d", l.last)
	case uint64(len(items)) != want:
		return l.torn("it has %d items, want %d", len(items), want)
	}
	for _, k := range items {
		if err := l.put(k); err != nil {
			return err
		}
	}
	return nil
}

// put takes one KMS. Rows of one page that say the same are one; on two pages they tell that the list has moved on.
func (l *listing) put(k KMS) error {
	p, twice := l.at[k.ID]
	switch {
	case !twice:
		l.at[k.ID] = place{l.pages, len(l.kms)}
		l.kms = append(l.kms, k)
	case !reflect.DeepEqual(l.kms[p.index], k):
		return l.torn("%s is given twice, and differs", sanitize.Quote(k.ID))
	case p.page != l.pages:
		return l.torn("%s was on page %d already", sanitize.Quote(k.ID), p.page)
	}
	return nil
}

func (l *listing) torn(format string, args ...any) error {
	return &TornError{l.pages, fmt.Sprintf(format, args...)}
}

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
