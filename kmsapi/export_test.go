package kmsapi

import "github.com/kms-auditor/kms-auditor/internal/sanitize"

func DecodeKMS(body []byte) (KMS, error) {
	return decode(string(body), sanitize.Redactor{}, object.kms)
}

func DecodeAppIDs(body []byte) ([]AppID, error) {
	return decode(string(body), sanitize.Redactor{}, object.appIDs)
}
