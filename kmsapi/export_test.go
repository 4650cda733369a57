package kmsapi

import "github.com/kms-auditor/kms-auditor/internal/sanitize"

func DecodeKMS(body []byte) (KMS, error) { return decodeKMS(string(body), sanitize.Redactor{}) }

func DecodeAppIDs(body []byte) ([]AppID, error) {
	return decodeAppIDs(string(body), sanitize.Redactor{})
}
