package transport

import "github.com/kms-auditor/kms-auditor/internal/sanitize"

// CheckSingle holds the answer to a single call against its id.
func CheckSingle(body []byte, id string) error {
	return CheckAnswer(body, id)
}

// CheckAnswer holds the answer to a batch against the ids, several, that were asked.
func CheckAnswer(body []byte, ids ...string) error {
	places := map[string]int{}
	for i, id := range ids {
		places[id] = i
	}
	_, err := new(Client).check(body, places)
	return err
}

// Kinds are what a provider's words are taken for.
type Kinds struct{ Passing, Pruned, UnknownBlock, FormRefused, Revert, BatchRefused, TooWide bool }

func kindsOf(err error) Kinds {
	return Kinds{IsTransient(err), IsPruned(err), IsUnknownBlock(err), IsFormRefused(err), IsRevert(err), isBatchRefused(err), IsTooWide(err)}
}

// Answered is what becomes of a JSON-RPC error object, where a text is secret.
func Answered(code int, text, hidden string) (Kinds, error) {
	err := (&Client{redact: sanitize.NewRedactor(hidden)}).answerError(code, text)
	return kindsOf(err), err
}

// Refused is what becomes of an HTTP answer, where a text is secret.
func Refused(status int, body []byte, hidden string) (Kinds, error) {
	err := &statusError{status: status, body: (&Client{redact: sanitize.NewRedactor(hidden)}).cut(body)}
	return kindsOf(err), err
}
