package aws

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/providers"
)

// Schema is the JSON Schema of the settings.
const Schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Settings of the AWS provider",
  "type": "object",
  "required": ["region"],
  "properties": {
    "region": {"type": "string", "description": "where machines are made, such as eu-west-1"},
    "access_key_id": {"type": "string", "description": "with secret_access_key; without them credentials_file, or the host's instance role"},
    "secret_access_key": {"type": "string"},
    "session_token": {"type": "string"},
    "credentials_file": {"type": "string", "description": "a file as the AWS CLI writes them"},
    "profile": {"type": "string", "description": "the profile in credentials_file", "default": "default"},
    "subnets": {"type": "array", "items": {"type": "string"}, "maxItems": 16, "description": "where machines are made, the first one that has room; all of one VPC. The default subnets of the region where it is missing"},
    "sizes": {"type": "array", "items": {"type": "string"}, "maxItems": 64, "description": "instance types that are offered; the first is the default"},
    "market": {"enum": ["on-demand", "spot"], "default": "on-demand"},
    "confidential": {"enum": ["", "sev-snp"], "description": "sev-snp offers only the types that have it, with it on"},
    "addresses": {"enum": ["elastic", "private"], "default": "elastic", "description": "elastic: an Elastic IP address each, kept while the machine is off; private: the subnet's address alone"},
    "kms_key": {"type": "string", "description": "key that encrypts data volumes; the account's own for EBS where it is missing"},
    "api_limits": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000, "default": 1, "description": "the account's API rates, as a multiple of the documented ones"},
    "endpoint": {"type": "string", "description": "base URL in place of AWS's own, for an EC2-compatible server"}
  },
  "additionalProperties": false
}
`

// settings is what Configure takes.
type settings struct {
	Region          string   `json:"region"`
	AccessKeyID     string   `json:"access_key_id"`
	SecretAccessKey string   `json:"secret_access_key"`
	SessionToken    string   `json:"session_token"`
	CredentialsFile string   `json:"credentials_file"`
	Profile         string   `json:"profile"`
	Subnets         []string `json:"subnets"`
	Sizes           []string `json:"sizes"`
	Market          string   `json:"market"`
	Confidential    string   `json:"confidential"`
	Addresses       string   `json:"addresses"`
	KMSKey          string   `json:"kms_key"`
	APILimits       float64  `json:"api_limits"`
	Endpoint        string   `json:"endpoint"`
}

const (
	marketOnDemand   = "on-demand"
	marketSpot       = "spot"
	addressesElastic = "elastic"
	addressesPrivate = "private"
	sevSNP           = "sev-snp"
)

// defaultSizes have AMD SEV-SNP and NitroTPM.
var defaultSizes = []string{"m6a.large", "m6a.xlarge", "c6a.large", "r6a.large"}

var (
	regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,3}-[0-9]$`)
	subnetName = regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`)
	typeName   = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+$`)
)

func parseSettings(raw []byte) (settings, error) {
	s := settings{Market: marketOnDemand, Addresses: addressesElastic, APILimits: 1, Profile: "default"}
	if err := strictjson.Unmarshal(raw, &s); err != nil {
		return s, providers.Errorf(providers.CodeInvalid, "reading the settings: %s", err)
	}
	if s.Sizes == nil {
		s.Sizes = defaultSizes
	}
	return s, s.check()
}

func (s settings) check() error {
	wrong := func(field, why string) error {
		return providers.Errorf(providers.CodeInvalid, "settings: %s %s", field, why)
	}
	if s.Region == "" {
		e := providers.Errorf(providers.CodeInvalid, "settings: region is missing")
		e.Hint = "such as region: eu-west-1"
		return e
	}
	notLike := func(like *regexp.Regexp) func(string) bool {
		return func(v string) bool { return !like.MatchString(v) }
	}
	switch {
	case !regionName.MatchString(s.Region):
		return wrong("region", "is "+s.Region+", which is no region's name")
	case (s.AccessKeyID == "") != (s.SecretAccessKey == ""):
		return wrong("access_key_id and secret_access_key", "belong together")
	case s.SessionToken != "" && s.AccessKeyID == "":
		return wrong("session_token", "needs access_key_id")
	case s.CredentialsFile != "" && (s.AccessKeyID != "" || !strings.HasPrefix(s.CredentialsFile, "/")):
		return wrong("credentials_file", "is an absolute path, and comes without access_key_id")
	case slices.ContainsFunc(s.Subnets, notLike(subnetName)) || len(s.Subnets) > 16:
		return wrong("subnets", "are at most 16 names such as subnet-0123456789abcdef0")
	case len(s.Sizes) == 0 || len(s.Sizes) > 64 || slices.ContainsFunc(s.Sizes, notLike(typeName)):
		return wrong("sizes", "are 1 to 64 instance types such as m6a.large")
	case s.Market != marketOnDemand && s.Market != marketSpot:
		return wrong("market", "is on-demand or spot")
	case s.Confidential != "" && s.Confidential != sevSNP:
		return wrong("confidential", "is sev-snp or empty")
	case s.Addresses != addressesElastic && s.Addresses != addressesPrivate:
		return wrong("addresses", "is elastic or private")
	case s.APILimits <= 0 || s.APILimits > 1000:
		return wrong("api_limits", "is more than 0 and at most 1000")
	}
	return s.checkEndpoint()
}

func (s settings) checkEndpoint() error {
	if s.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return providers.Errorf(providers.CodeInvalid, "settings: endpoint is no URL of a server")
	}
	return nil
}

// place checks where, and as what, a machine is to be made, and answers the
// defaults where nothing is said.
func (s settings) place(spec providers.Spec) (size string, err error) {
	if spec.Region != "" && spec.Region != s.Region {
		return "", providers.Errorf(providers.CodeInvalid, "region %q is not offered: %s", spec.Region, s.Region)
	}
	if spec.Size == "" {
		return s.Sizes[0], nil
	}
	if !slices.Contains(s.Sizes, spec.Size) {
		return "", providers.Errorf(providers.CodeInvalid, "size %q is not offered: %s", spec.Size, strings.Join(s.Sizes, ", "))
	}
	return spec.Size, nil
}
