package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// How many changes /api/v1/history answers with, unless it is asked for fewer or more.
const (
	someChanges = 100
	mostChanges = 10_000
	shownLists  = 4 // of state.Lists, unless others are asked for
)

func timeline(s *state.State) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := filter(s, r.URL.RawQuery)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		var body bytes.Buffer
		if err := render.Show(&body, s.Timeline(f), true); err != nil {
			refuse(w, http.StatusInternalServerError, "the history cannot be written as JSON")
			return
		}
		answer(w, http.StatusOK, body.Bytes())
	}
}

// filter reads a query. An unknown parameter is an error: it would choose more than was meant.
func filter(s *state.State, query string) (state.Filter, error) {
	f := state.Filter{Lists: state.Lists[:shownLists], Limit: someChanges}
	values, err := url.ParseQuery(query)
	if err != nil {
		return f, errors.New("the query cannot be read")
	}
	for name, given := range values {
		value := given[0]
		switch {
		case name == "list":
			f.Lists = given
			if i := slices.IndexFunc(given, func(l string) bool { return !slices.Contains(state.Lists, l) }); i >= 0 {
				err = fmt.Errorf("list %s is none of %s", sanitize.Quote(given[i]), strings.Join(state.Lists, ", "))
			}
		case len(given) > 1:
			err = fmt.Errorf("%s is given more than once", sanitize.Quote(name))
		case name == "chain":
			if f.Chain = value; !slices.Contains(s.Chains(), value) {
				err = fmt.Errorf("chain %s is not configured", sanitize.Quote(value))
			}
		case name == "contract":
			if f.Contract, err = sanitize.ParseAddress(value); err != nil {
				err = fmt.Errorf("contract %s is no address", sanitize.Quote(value))
			}
		case name == "since":
			f.Since, err = parseSince(value)
		case name == "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 || f.Limit > mostChanges {
				err = fmt.Errorf("limit %s is not a number from 1 to %d", sanitize.Quote(value), mostChanges)
			}
		default:
			err = fmt.Errorf("there is no parameter %s: chain, contract, list, since and limit are known", sanitize.Quote(name))
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func parseSince(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("since %s is neither a day (2026-12-31) nor a time (RFC 3339)", sanitize.Quote(s))
}

func refuse(w http.ResponseWriter, status int, why string) {
	body, err := json.Marshal(map[string]string{"error": why})
	if err != nil {
		panic(err) // a text always encodes
	}
	answer(w, status, append(body, '\n'))
}

// answer sends JSON.
func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked has gone
}
