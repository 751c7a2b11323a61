// Package refusal says in the contract's words what AWS refused.
//
// Invariants: every error that leaves the provider has a code, says what was
// being done, and carries AWS's request id where there was an answer; an answer
// that never came to a request that makes something is OUTCOME_UNKNOWN, and
// never a claim that nothing was done; and a code that is not in the table is
// INTERNAL where AWS says that the request was wrong.
package refusal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/toolshed-cloud/shed/providers"
)

// Effect is what a request does when it was taken and nobody heard of it.
type Effect bool

const (
	// Repeatable requests can be made again.
	Repeatable Effect = false
	// Makes is of requests that make something.
	Makes Effect = true
)

// retryAfter is how long to wait where AWS does not say.
const retryAfter = time.Second

// From is err as a *providers.Error; nil for nil. doing says what was being
// done.
func From(doing string, err error, effect Effect) error {
	if err == nil {
		return nil
	}
	var known *providers.Error
	if errors.As(err, &known) {
		return err
	}
	e := classify(err, effect)
	e.Message = doing + ": " + e.Message
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", e, err)
	}
	return e
}

// Code is AWS's own code of an error; empty where it has none.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Is reports whether AWS refused with one of the codes.
func Is(err error, codes ...string) bool {
	got := Code(err)
	for _, code := range codes {
		if got == code {
			return true
		}
	}
	return false
}

func classify(err error, effect Effect) *providers.Error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unanswered(err, effect)
	}
	e := &providers.Error{Message: fmt.Sprintf("%s: %s", api.ErrorCode(), api.ErrorMessage())}
	status := 0
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		e.RequestID, status = resp.ServiceRequestID(), resp.HTTPStatusCode()
	}
	var operation *smithy.OperationError
	action := "the action"
	if errors.As(err, &operation) {
		action = iamService(operation.Service()) + ":" + operation.Operation()
	}
	if row, ok := table[api.ErrorCode()]; ok {
		row.fill(e, action)
		return e
	}
	switch {
	case status == http.StatusServiceUnavailable:
		e.Code, e.Scope = providers.CodeUnavailable, providers.ScopeRegion
	case status >= http.StatusInternalServerError:
		e.Code, e.Scope = failed(effect), providers.ScopeRegion
	default:
		e.Code = providers.CodeInternal
	}
	return e
}

// unanswered is an error without an answer of AWS's.
func unanswered(err error, effect Effect) *providers.Error {
	var signing *v4.SigningError
	if errors.As(err, &signing) {
		return &providers.Error{
			Code: providers.CodeUnauthenticated, Scope: providers.ScopeAccount, Message: err.Error(),
			Hint: "set access_key_id and secret_access_key, or credentials_file, or give this host an instance role",
		}
	}
	return &providers.Error{Code: failed(effect), Scope: providers.ScopeRegion, Message: err.Error()}
}

func failed(effect Effect) providers.Code {
	if effect == Makes {
		return providers.CodeOutcomeUnknown
	}
	return providers.CodeUnavailable
}

// iamService is the prefix that IAM gives a service's actions.
func iamService(sdk string) string {
	switch sdk {
	case "EBS":
		return "ebs"
	case "Service Quotas":
		return "servicequotas"
	case "Pricing":
		return "pricing"
	}
	return "ec2"
}
