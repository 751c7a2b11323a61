package aws

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
)

func TestSettingsAreRefusedByName(t *testing.T) {
	for given, want := range map[string]string{
		`{}`:                                  "region",
		`{"region":"Europe"}`:                 "region",
		`{"region":"eu-west-1","colour":"x"}`: "colour",
		`{"region":"eu-west-1","access_key_id":"a"}`:                                                 "secret_access_key",
		`{"region":"eu-west-1","session_token":"a"}`:                                                 "session_token",
		`{"region":"eu-west-1","credentials_file":"aws"}`:                                            "credentials_file",
		`{"region":"eu-west-1","subnets":["vpc-1"]}`:                                                 "subnets",
		`{"region":"eu-west-1","sizes":[]}`:                                                          "sizes",
		`{"region":"eu-west-1","sizes":["*"]}`:                                                       "sizes",
		`{"region":"eu-west-1","market":"black"}`:                                                    "market",
		`{"region":"eu-west-1","confidential":"tdx"}`:                                                "confidential",
		`{"region":"eu-west-1","addresses":"public"}`:                                                "addresses",
		`{"region":"eu-west-1","api_limits":0}`:                                                      "api_limits",
		`{"region":"eu-west-1","endpoint":"unix:/x"}`:                                                "endpoint",
		`{"region":"eu-west-1","credentials_file":"/x","access_key_id":"a","secret_access_key":"b"}`: "credentials_file",
	} {
		_, err := parseSettings([]byte(given))
		var e *providers.Error
		if !errors.As(err, &e) || e.Code != providers.CodeInvalid || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v, want %s named", given, err, want)
		}
	}
	s, err := parseSettings([]byte(`{"region":"us-gov-west-1"}`))
	if err != nil || s.Market != marketOnDemand || s.Addresses != addressesElastic || s.APILimits != 1 || len(s.Sizes) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"region":"eu-west-1","sizes":["m6a.large"],"api_limits":2}`))
	f.Add([]byte(`{"region":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSettings(b); err == nil && (s.Region == "" || len(s.Sizes) == 0 || s.APILimits <= 0) {
			t.Errorf("taken: %+v", s)
		}
	})
}

const product = `{"product":{"attributes":{"instanceType":"m6a.large"}},"terms":{"OnDemand":{"A.B":{"priceDimensions":{"A.B.C":
{"unit":"Hrs","pricePerUnit":{"USD":"0.0864000000"},"description":"$0.0864 per On Demand Linux m6a.large Instance Hour"}}}}}}`

func TestPriceOfAProduct(t *testing.T) {
	if got, ok := onDemand([]byte(product)); !ok || got != 86_400 {
		t.Errorf("got %d, %t", got, ok)
	}
	for _, none := range []string{``, `{}`, `[]`, strings.ReplaceAll(product, "Hrs", "Quantity"), strings.ReplaceAll(product, "0.0864000000", "-1"), strings.ReplaceAll(product, "USD", "CNY")} {
		if got, ok := onDemand([]byte(none)); ok {
			t.Errorf("%s costs %d", none, got)
		}
	}
}

func FuzzPrice(f *testing.F) {
	f.Add([]byte(product))
	f.Add([]byte(`{"terms":{"OnDemand":{"a":{"priceDimensions":{"b":{"unit":"Hrs","pricePerUnit":{"USD":"1e400"}}}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if micros, ok := onDemand(b); ok && micros < 0 {
			t.Errorf("it costs %d", micros)
		}
	})
}

func TestSinceIsWhatWasNotSeen(t *testing.T) {
	for _, c := range [][3]string{
		{"", "abc", "abc"}, {"abc", "abc", ""}, {"abc", "abcdef", "def"}, {"abcdef", "defghi", "ghi"}, {"abc", "xyz", "xyz"}, {"abcdef", "f", ""},
	} {
		if got := string(since([]byte(c[0]), []byte(c[1]))); got != c[2] {
			t.Errorf("after %q, of %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// The token is the machine's, its spec's and the subnet's; a try that EC2 ended
// itself has another.
func TestTokens(t *testing.T) {
	l := launch{req: providers.CreateRequest{Installation: "i", Machine: "m", Generation: 1, Spec: providers.Spec{DataBytes: 1}}}
	first := l.token(subnet{id: "subnet-1"})
	l.req.Generation = 2
	if l.token(subnet{id: "subnet-1"}) != first {
		t.Error("another generation has another token")
	}
	if l.token(subnet{id: "subnet-2"}) == first {
		t.Error("another subnet has the same")
	}
	l.dead = []types.Instance{{InstanceId: aws.String("i-1")}}
	if l.token(subnet{id: "subnet-1"}) == first {
		t.Error("another try has the same")
	}
	if len(first) != 64 {
		t.Errorf("it has %d characters, and EC2 takes 64", len(first))
	}
}

// A volume is deleted to make room only where it cannot have been used.
func TestNeverStarted(t *testing.T) {
	for code, want := range map[string]bool{
		"Server.InternalError": true, "Client.VolumeLimitExceeded": true,
		"Client.UserInitiatedShutdown": false, "Server.SpotInstanceTermination": false, "": false,
	} {
		if got := neverStarted(types.Instance{StateReason: &types.StateReason{Code: aws.String(code)}}); got != want {
			t.Errorf("%q: %t", code, got)
		}
	}
	if neverStarted(types.Instance{}) {
		t.Error("without a reason it is taken for unused")
	}
}
