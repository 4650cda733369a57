package ethrpc

// CheckAnswer holds the answer to a batch against the ids that were asked.
func CheckAnswer(body []byte, ids ...string) error {
	want := asked{ids: map[string]bool{}, batch: true}
	for _, id := range ids {
		want.ids[id] = true
	}
	return new(validatingTransport).check(body, want)
}
