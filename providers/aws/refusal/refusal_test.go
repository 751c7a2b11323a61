package refusal_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// answered is an error as the SDK makes it of one of EC2's answers.
func answered(operation, code string, status int) error {
	return &smithy.OperationError{ServiceID: "EC2", OperationName: operation, Err: &awshttp.ResponseError{
		RequestID: "request-1",
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      &smithy.GenericAPIError{Code: code, Message: "AWS says so"},
		},
	}}
}

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		aws   string
		code  providers.Code
		scope providers.Scope
		hint  string
	}{
		{"AuthFailure", providers.CodeUnauthenticated, providers.ScopeAccount, "access_key_id"},
		{"ExpiredToken", providers.CodeUnauthenticated, providers.ScopeAccount, "session_token"},
		{"RequestExpired", providers.CodeUnauthenticated, providers.ScopeAccount, "clock"},
		{"UnauthorizedOperation", providers.CodeDenied, providers.ScopeAccount, "ec2:RunInstances"},
		{"AccessDeniedException", providers.CodeDenied, providers.ScopeAccount, "ec2:RunInstances"},
		{"OptInRequired", providers.CodeDenied, providers.ScopeAccount, "region"},
		{"OperationNotPermitted", providers.CodeDenied, providers.ScopeMachine, "protection"},
		{"InsufficientInstanceCapacity", providers.CodeCapacity, providers.ScopeRegion, "zone"},
		{"InsufficientFreeAddressesInSubnet", providers.CodeCapacity, providers.ScopeRegion, "subnets"},
		{"Unsupported", providers.CodeCapacity, providers.ScopeRegion, "zone"},
		{"SpotMaxPriceTooLow", providers.CodeCapacity, providers.ScopeRegion, "market"},
		{"VcpuLimitExceeded", providers.CodeQuota, providers.ScopeRegion, "Service Quotas"},
		{"AddressLimitExceeded", providers.CodeQuota, providers.ScopeRegion, "L-0263D0A3"},
		{"VolumeLimitExceeded", providers.CodeQuota, providers.ScopeRegion, "quota"},
		{"RequestLimitExceeded", providers.CodeThrottled, providers.ScopeRegion, "api_limits"},
		{"VolumeModificationRateExceeded", providers.CodeThrottled, providers.ScopeMachine, "hours"},
		{"Unavailable", providers.CodeUnavailable, providers.ScopeRegion, ""},
		{"IncorrectInstanceState", providers.CodeAborted, providers.ScopeMachine, ""},
		{"VolumeInUse", providers.CodeAborted, providers.ScopeMachine, ""},
		{"IdempotentParameterMismatch", providers.CodeAborted, providers.ScopeMachine, "before"},
		{"InvalidVolume.ZoneMismatch", providers.CodeConflict, providers.ScopeMachine, "zone"},
		{"InvalidSubnetID.NotFound", providers.CodeInvalid, providers.ScopeRegion, "subnets"},
		{"VPCIdNotSpecified", providers.CodeInvalid, providers.ScopeRegion, "default VPC"},
		{"InvalidParameterValue", providers.CodeInvalid, providers.ScopeMachine, ""},
		{"Encryption.KeyDisabled", providers.CodeInvalid, providers.ScopeAccount, "kms_key"},
		{"SomethingNew", providers.CodeInternal, providers.ScopeMachine, ""},
	} {
		err := refusal.From("making the instance", answered("RunInstances", c.aws, http.StatusBadRequest), refusal.Makes)
		var e *providers.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", c.aws, err)
		}
		if e.Code != c.code || providers.ScopeOf(e) != c.scope || e.RequestID != "request-1" || !strings.Contains(e.Hint, c.hint) || c.hint == "" && e.Hint != "" {
			t.Errorf("%s: %+v", c.aws, e)
		}
		if !strings.HasPrefix(e.Message, "making the instance: "+c.aws) {
			t.Errorf("%s says %q", c.aws, e.Message)
		}
		if e.Code == providers.CodeThrottled && e.RetryAfter <= 0 {
			t.Errorf("%s names no delay", c.aws)
		}
	}
}

// What never came, and what failed on AWS's side, is known to have done nothing
// only where it makes nothing.
func TestUnknownOutcomes(t *testing.T) {
	for _, c := range []struct {
		what   string
		err    error
		effect refusal.Effect
		want   providers.Code
	}{
		{"no answer, makes", errors.New("connection reset"), refusal.Makes, providers.CodeOutcomeUnknown},
		{"no answer, repeatable", errors.New("connection reset"), refusal.Repeatable, providers.CodeUnavailable},
		{"given up, makes", context.DeadlineExceeded, refusal.Makes, providers.CodeOutcomeUnknown},
		{"failed, makes", answered("RunInstances", "InternalError", 500), refusal.Makes, providers.CodeOutcomeUnknown},
		{"failed, repeatable", answered("DescribeInstances", "InternalError", 500), refusal.Repeatable, providers.CodeUnavailable},
		{"overloaded, makes", answered("RunInstances", "SlowDown", 503), refusal.Makes, providers.CodeUnavailable},
	} {
		if got := providers.CodeOf(refusal.From("x", c.err, c.effect)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	if err := refusal.From("x", context.DeadlineExceeded, refusal.Makes); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("that the caller gave up is lost: %v", err)
	}
	known := providers.Errorf(providers.CodeThrottled, "paced")
	if err := refusal.From("x", &smithy.OperationError{Err: known}, refusal.Makes); providers.CodeOf(err) != providers.CodeThrottled {
		t.Errorf("an error of our own became %v", err)
	}
	if refusal.From("x", nil, refusal.Makes) != nil {
		t.Error("nothing became an error")
	}
}

// Every setting that a hint names is one.
func TestHintsNameSettings(t *testing.T) {
	table, err := os.ReadFile("table.go")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile("../settings.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range regexp.MustCompile(`\b[a-z]+_[a-z_]+\b`).FindAllString(string(table), -1) {
		if !strings.Contains(string(settings), `"`+word+`"`) {
			t.Errorf("a hint names %s, which is no setting", word)
		}
	}
}
