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

// KMS is one KMS as the API describes it. Up to version 2026-05-22 the API describes nodes, several of which may share a
// contract. From 2026-06-23 on it describes contracts. Fields that the version lacks or the API omits are empty. Texts are
// unchanged except that the key is masked.
type KMS struct {
	ID          string
	Slug        string
	Label       string          // from 2026-06-23
	URL         string          // of the node; up to 2026-05-22
	Version     string          // of the node; up to 2026-05-22
	ChainID     uint64          // 0 if off chain
	Contract    *common.Address // nil if off chain, or if the API gives none
	K256Pubkey  string
	CAPubkey    string
	PerContract bool   // described as a contract (from 2026-06-23), not as a node
	NodeCount   uint64 // of the contract; from 2026-06-23

	// GatewayAppID is free text, with or without 0x. If it is empty and HasGatewayAppID is set, the API sent null or "".
	GatewayAppID    string
	HasGatewayAppID bool
}

// Info fetches one KMS by id or slug. Errors are like those of OnChainDetail.
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

// kms reads the body of GET /kms/{kms_id}, of any version, or a row of the list. The name of the contract's field distinguishes
// the two shapes, because the API may serve another version than the requested one.
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

// contractOf reads the address of a contract. An address requires a chain id.
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
	pageSize = 100 // the API's maximum
	maxPages = 100
)

// Filter narrows a list. The zero value asks for every KMS.
type Filter struct {
	OnChain bool // only those with a contract on a chain
}

// List is all pages of GET /kms.
type List struct {
	KMS   []KMS    // in the API's order, each id once
	Pages []Source // one per page, at least one
}

// List fetches every page of the list of KMS. The API gives no snapshot, so inconsistent pages are read once more from the start.
// If they are inconsistent again, the error is a *InconsistentPagesError. Other errors are like those of OnChainDetail.
func (c *Client) List(ctx context.Context, f Filter) (*List, error) {
	l, err := c.list(ctx, f)
	if isInconsistent(err) {
		if err = httpx.Pause(ctx, c.o.RetryDelay, err); err == nil {
			l, err = c.list(ctx, f)
		}
		if isInconsistent(err) {
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
			return nil, fmt.Errorf("%w: %w", &InconsistentPagesError{n, "gone"}, err)
		}
		if err != nil {
			return nil, err
		}
		l.Pages = append(l.Pages, src)
	}
	l.KMS = all.kms
	return l, nil
}

// DecodeList decodes the bodies of all pages of GET /kms, of any version, like Decode. The error for inconsistent pages is a
// *InconsistentPagesError, every other is an *InvalidError.
func DecodeList(bodies ...[]byte) ([]KMS, error) {
	var all listing
	for _, body := range bodies {
		if err := all.add(string(body), sanitize.Redactor{}); err != nil {
			return nil, err
		}
	}
	if all.more() {
		return nil, &InconsistentPagesError{all.pages + 1, "missing"}
	}
	return all.kms, nil
}

// listing joins pages.
type listing struct {
	kms   []KMS
	at    map[string]place
	pages int
	bytes int
	total uint64 // number of KMS
	size  uint64 // of a page
	last  uint64 // number of the last page
}

// place is the position of a KMS in a listing.
type place struct{ page, index int }

func (l *listing) more() bool { return l.pages == 0 || uint64(l.pages) < l.last }

// add adds the next page.
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
		return &InvalidError{"total", fmt.Sprintf("%d, but at most %d pages of %d are read", total, maxPages, size)}
	case total != l.total || size != l.size:
		return l.inconsistent("it says total %d and page size %d, but the first page said %d and %d", total, size, l.total, l.size)
	case page != n:
		return l.inconsistent("it says that it is page %d", page)
	case pages != l.last && (total > 0 || pages > 1):
		return l.inconsistent("it says that there are %d pages, but %d rows with page size %d make %d", pages, total, size, l.last)
	case n > max(l.last, 1):
		return l.inconsistent("there are only %d", l.last)
	case uint64(len(items)) != want:
		return l.inconsistent("it has %d items, want %d", len(items), want)
	}
	for _, k := range items {
		if err := l.put(k); err != nil {
			return err
		}
	}
	return nil
}

// put adds a KMS. Equal rows on one page count once. On two pages they show that the list changed in between.
func (l *listing) put(k KMS) error {
	p, twice := l.at[k.ID]
	switch {
	case !twice:
		l.at[k.ID] = place{l.pages, len(l.kms)}
		l.kms = append(l.kms, k)
	case !reflect.DeepEqual(l.kms[p.index], k):
		return l.inconsistent("%s is given twice with different values", sanitize.Quote(k.ID))
	case p.page != l.pages:
		return l.inconsistent("%s was already on page %d", sanitize.Quote(k.ID), p.page)
	}
	return nil
}

func (l *listing) inconsistent(format string, args ...any) error {
	return &InconsistentPagesError{l.pages, fmt.Sprintf(format, args...)}
}

// MaxAppIDs is the most ids that NextAppIDs reserves at once.
const MaxAppIDs = 20

// AppID is an app id that the API has reserved. Creating the app takes both fields.
type AppID struct {
	ID    string // as sent
	Nonce uint64
}

// NextAppIDs reserves 1 to MaxAppIDs app ids on the server. Although it is a GET, it has a side effect, so it is never retried. If
// ids may have been reserved in spite of an error, the error says so. The API may return another number of ids than counts.
func (c *Client) NextAppIDs(ctx context.Context, counts int) ([]AppID, error) {
	if counts < 1 || counts > MaxAppIDs {
		return nil, fmt.Errorf("reserving %d app ids: want 1 to %d", counts, MaxAppIDs)
	}
	c.Close() // net/http would retry a GET on a broken idle connection
	q := call{endpoint: nextAppIDs, path: "/kms/phala/next_app_id", query: url.Values{"counts": {strconv.Itoa(counts)}}, once: true}
	ids, _, err := fetch(ctx, c, q, object.appIDs)
	if err != nil {
		if status, ok := errors.AsType[*StatusError](err); !ok || status.Status/100 != 4 {
			err = fmt.Errorf("%w; ids may have been reserved nevertheless", err)
		}
		return nil, c.all.Error(fmt.Errorf("reserving %d app ids: %w", counts, err))
	}
	return ids, nil
}

// appIDs reads the body of GET /kms/phala/next_app_id.
func (o object) appIDs() []AppID {
	return list(o, "app_ids", func(o object) AppID { return AppID{o.required("app_id"), o.number("nonce")} })
}
