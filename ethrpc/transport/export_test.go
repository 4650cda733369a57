package transport

import "github.com/kms-auditor/kms-auditor/internal/sanitize"

// CheckSingle holds the answer to a single call against its id.
func CheckSingle(body []byte, id string) error {
	return new(validatingTransport).check(body, asked{ids: map[string]bool{id: true}})
}

// CheckAnswer holds the answer to a batch against the ids that were asked.
func CheckAnswer(body []byte, ids ...string) error {
	want := asked{ids: map[string]bool{}, batch: true}
	for _, id := range ids {
		want.ids[id] = true
	}
	return new(validatingTransport).check(body, want)
}

// Kinds are what a provider's words are taken for.
type Kinds struct{ Passing, Pruned, UnknownBlock, FormRefused, Revert, BatchRefused, TooWide bool }

func kindsOf(err error) Kinds {
	return Kinds{IsTransient(err), IsPruned(err), IsUnknownBlock(err), IsFormRefused(err), IsRevert(err), isBatchRefused(err), IsTooWide(err)}
}

type object struct {
	code int
	text string
}

func (o object) Error() string  { return o.text }
func (o object) ErrorCode() int { return o.code }

// Answered is what becomes of a JSON-RPC error object, where a text is secret.
func Answered(code int, text, hidden string) (Kinds, error) {
	err := (&Client{redact: sanitize.NewRedactor(hidden)}).answerError(object{code, text})
	return kindsOf(err), err
}

// Refused is what becomes of an HTTP answer, where a text is secret.
func Refused(status int, body []byte, hidden string) (Kinds, error) {
	err := &statusError{status: status, body: (&validatingTransport{redact: sanitize.NewRedactor(hidden)}).cut(body)}
	return kindsOf(err), err
}
