package render

import (
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// The part of SARIF 2.1.0 that is written; field by field it is chapter 3 of the OASIS standard.
type (
	object   = map[string]any
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        object            `json:"tool"`
		Automation  object            `json:"automationDetails"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		Properties  object            `json:"properties"`
	}
	sarifDriver struct {
		Name     string      `json:"name"`
		Version  string      `json:"version,omitempty"`
		Semantic string      `json:"semanticVersion,omitempty"`
		About    string      `json:"informationUri"`
		Rules    []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID         string `json:"id"`
		Short      object `json:"shortDescription"`
		Full       object `json:"fullDescription"`
		Help       object `json:"help"`
		HelpURI    string `json:"helpUri"`
		Default    object `json:"defaultConfiguration"`
		Properties object `json:"properties"`
	}
	sarifInvocation struct {
		OK            bool      `json:"executionSuccessful"`
		Start         time.Time `json:"startTimeUtc"`
		End           time.Time `json:"endTimeUtc"`
		Notifications []object  `json:"toolExecutionNotifications"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      object             `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions"` // either all results of a run have the list or none has
		Properties   sarifProperties    `json:"properties"`
	}
	sarifLocation struct {
		Physical object         `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifLogical struct {
		Name string `json:"name"`
		Full string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
	sarifProperties struct {
		Claim     audit.ClaimState  `json:"claim,omitempty"`
		OnChain   audit.ChainState  `json:"on_chain,omitempty"`
		Policy    audit.PolicyState `json:"policy,omitempty"`
		Assurance audit.Assurance   `json:"assurance,omitempty"`
		Block     *audit.Block      `json:"block,omitempty"`
		FirstSeen *time.Time        `json:"first_seen,omitempty"`

		State         audit.FindingState `json:"state,omitempty"`
		LastConfirmed *time.Time         `json:"last_confirmed_at,omitempty"`
	}
)
