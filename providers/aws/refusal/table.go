package refusal

import (
	"strings"

	"github.com/toolshed-cloud/shed/providers"
)

// row is what one of AWS's codes means. In a hint, ACTION is the permission.
type row struct {
	code  providers.Code
	scope providers.Scope
	hint  string
}

func (r row) fill(e *providers.Error, action string) {
	e.Code, e.Scope = r.code, r.scope
	e.Hint = strings.ReplaceAll(r.hint, "ACTION", action)
	if r.code == providers.CodeThrottled && e.RetryAfter == 0 {
		e.RetryAfter = retryAfter
	}
}

const (
	allow   = "allow ACTION: docs/aws.md has the whole policy"
	keys    = "look at access_key_id, secret_access_key and session_token, and at this host's clock"
	raise   = "ask for a higher quota in Service Quotas, or make machines in another region"
	another = "another size, zone or region may have room"
	subnets = "look at subnets in the settings"
)

// table holds the codes of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and
// https://docs.aws.amazon.com/ebs/latest/APIReference/CommonErrors.html
// that the provider's requests can meet.
var table = map[string]row{
	"AuthFailure":                 {providers.CodeUnauthenticated, providers.ScopeAccount, keys},
	"InvalidClientTokenId":        {providers.CodeUnauthenticated, providers.ScopeAccount, keys},
	"UnrecognizedClientException": {providers.CodeUnauthenticated, providers.ScopeAccount, keys},
	"SignatureDoesNotMatch":       {providers.CodeUnauthenticated, providers.ScopeAccount, keys},
	"InvalidSignatureException":   {providers.CodeUnauthenticated, providers.ScopeAccount, keys},
	"MissingAuthenticationToken":  {providers.CodeUnauthenticated, providers.ScopeAccount, keys},
	"RequestExpired":              {providers.CodeUnauthenticated, providers.ScopeAccount, "the credentials or the clock of this host are out of date"},
	"ExpiredToken":                {providers.CodeUnauthenticated, providers.ScopeAccount, "session_token has expired: configure other credentials"},
	"ExpiredTokenException":       {providers.CodeUnauthenticated, providers.ScopeAccount, "session_token has expired: configure other credentials"},

	"UnauthorizedOperation":   {providers.CodeDenied, providers.ScopeAccount, allow},
	"AccessDenied":            {providers.CodeDenied, providers.ScopeAccount, allow},
	"AccessDeniedException":   {providers.CodeDenied, providers.ScopeAccount, allow},
	"Blocked":                 {providers.CodeDenied, providers.ScopeAccount, "the account is blocked: write to AWS Support"},
	"PendingVerification":     {providers.CodeDenied, providers.ScopeAccount, "AWS is verifying the account in this region: try again in some hours"},
	"OptInRequired":           {providers.CodeDenied, providers.ScopeAccount, "enable the region for the account"},
	"OperationNotPermitted":   {providers.CodeDenied, providers.ScopeMachine, "somebody has set termination or stop protection on the instance: take it off"},
	"VPCResourceNotSpecified": {providers.CodeInvalid, providers.ScopeRegion, "the account has no default VPC: name subnets in the settings"},
	"VPCIdNotSpecified":       {providers.CodeInvalid, providers.ScopeRegion, "the account has no default VPC: name subnets in the settings"},

	"InsufficientInstanceCapacity":         {providers.CodeCapacity, providers.ScopeRegion, another},
	"InsufficientHostCapacity":             {providers.CodeCapacity, providers.ScopeRegion, another},
	"InsufficientReservedInstanceCapacity": {providers.CodeCapacity, providers.ScopeRegion, another},
	"InsufficientCapacity":                 {providers.CodeCapacity, providers.ScopeRegion, another},
	"InsufficientCapacityOnHost":           {providers.CodeCapacity, providers.ScopeRegion, another},
	"InsufficientVolumeCapacity":           {providers.CodeCapacity, providers.ScopeRegion, another},
	"InsufficientAddressCapacity":          {providers.CodeCapacity, providers.ScopeRegion, "AWS has no address left here: set addresses to private, or try another region"},
	"InsufficientFreeAddressesInSubnet":    {providers.CodeCapacity, providers.ScopeRegion, "the subnet is full: name a larger one in subnets"},
	"SpotMaxPriceTooLow":                   {providers.CodeCapacity, providers.ScopeRegion, "set market to on-demand"},
	"Unsupported":                          {providers.CodeCapacity, providers.ScopeRegion, "the size is not to be had in this zone: name subnets of others"},

	"VcpuLimitExceeded":                 {providers.CodeQuota, providers.ScopeRegion, raise},
	"InstanceLimitExceeded":             {providers.CodeQuota, providers.ScopeRegion, raise},
	"MaxSpotInstanceCountExceeded":      {providers.CodeQuota, providers.ScopeRegion, raise},
	"AddressLimitExceeded":              {providers.CodeQuota, providers.ScopeRegion, "a region allows 5 Elastic IP addresses unless the quota L-0263D0A3 is raised; or set addresses to private"},
	"VolumeLimitExceeded":               {providers.CodeQuota, providers.ScopeRegion, raise},
	"MaxIOPSLimitExceeded":              {providers.CodeQuota, providers.ScopeRegion, raise},
	"SnapshotLimitExceeded":             {providers.CodeQuota, providers.ScopeRegion, raise},
	"ConcurrentSnapshotLimitExceeded":   {providers.CodeQuota, providers.ScopeRegion, "wait until a snapshot is complete"},
	"PendingSnapshotLimitExceeded":      {providers.CodeQuota, providers.ScopeRegion, "wait until a snapshot is complete"},
	"ConcurrentLimitExceededException":  {providers.CodeQuota, providers.ScopeRegion, "wait until a snapshot is complete"},
	"ServiceQuotaExceededException":     {providers.CodeQuota, providers.ScopeRegion, raise},
	"SecurityGroupLimitExceeded":        {providers.CodeQuota, providers.ScopeRegion, raise},
	"SecurityGroupsPerInstanceExceeded": {providers.CodeQuota, providers.ScopeRegion, raise},
	"NetworkInterfaceLimitExceeded":     {providers.CodeQuota, providers.ScopeRegion, raise},
	"ResourceLimitExceeded":             {providers.CodeQuota, providers.ScopeRegion, raise},
	"ResourceCountExceeded":             {providers.CodeQuota, providers.ScopeRegion, raise},
	"AMIQuotaExceeded":                  {providers.CodeQuota, providers.ScopeRegion, raise},

	"RequestLimitExceeded":                  {providers.CodeThrottled, providers.ScopeRegion, "another program uses the account's API rate: set api_limits lower"},
	"Throttling":                            {providers.CodeThrottled, providers.ScopeRegion, ""},
	"ThrottlingException":                   {providers.CodeThrottled, providers.ScopeRegion, ""},
	"RequestThrottled":                      {providers.CodeThrottled, providers.ScopeRegion, ""},
	"RequestThrottledException":             {providers.CodeThrottled, providers.ScopeRegion, ""},
	"Client.RequestLimitExceeded":           {providers.CodeThrottled, providers.ScopeRegion, ""},
	"SnapshotCreationPerVolumeRateExceeded": {providers.CodeThrottled, providers.ScopeMachine, "a volume takes one snapshot in 15 seconds"},
	"VolumeModificationRateExceeded":        {providers.CodeThrottled, providers.ScopeMachine, "a volume can be changed again some hours after the last change"},

	"Unavailable":        {providers.CodeUnavailable, providers.ScopeRegion, ""},
	"ServiceUnavailable": {providers.CodeUnavailable, providers.ScopeRegion, ""},

	"IncorrectState":                     {providers.CodeAborted, providers.ScopeMachine, ""},
	"IncorrectInstanceState":             {providers.CodeAborted, providers.ScopeMachine, ""},
	"IncorrectModificationState":         {providers.CodeAborted, providers.ScopeMachine, "the volume is still being changed"},
	"InvalidInstanceID.NotLinkable":      {providers.CodeAborted, providers.ScopeMachine, ""},
	"VolumeInUse":                        {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidVolume.ZoneMismatch":         {providers.CodeConflict, providers.ScopeMachine, "a volume and its machine are in one zone"},
	"InvalidNetworkInterface.InUse":      {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidIPAddress.InUse":             {providers.CodeAborted, providers.ScopeMachine, ""},
	"DependencyViolation":                {providers.CodeAborted, providers.ScopeMachine, ""},
	"ConflictException":                  {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidInstanceID.NotFound":         {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidVolume.NotFound":             {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidNetworkInterfaceID.NotFound": {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidAllocationID.NotFound":       {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidGroup.NotFound":              {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidSnapshot.NotFound":           {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidAMIID.NotFound":              {providers.CodeAborted, providers.ScopeMachine, ""},
	"InvalidAMIID.Unavailable":           {providers.CodeAborted, providers.ScopeMachine, ""},
	"IdempotentParameterMismatch":        {providers.CodeAborted, providers.ScopeMachine, "a machine of this name was asked for otherwise before, and is not to be seen yet"},
	"IdempotentInstanceTerminated":       {providers.CodeAborted, providers.ScopeMachine, ""},

	"InvalidSubnetID.NotFound":     {providers.CodeInvalid, providers.ScopeRegion, subnets},
	"InvalidSubnet":                {providers.CodeInvalid, providers.ScopeRegion, subnets},
	"InvalidVpcID.NotFound":        {providers.CodeInvalid, providers.ScopeRegion, subnets},
	"InvalidInstanceType":          {providers.CodeInvalid, providers.ScopeRegion, "look at sizes in the settings"},
	"InvalidParameterValue":        {providers.CodeInvalid, providers.ScopeMachine, ""},
	"InvalidParameterCombination":  {providers.CodeInvalid, providers.ScopeMachine, ""},
	"InvalidParameter":             {providers.CodeInvalid, providers.ScopeMachine, ""},
	"InvalidNextToken":             {providers.CodeInvalid, providers.ScopeMachine, ""},
	"InvalidUserData.Malformed":    {providers.CodeInvalid, providers.ScopeMachine, ""},
	"InvalidBlockDeviceMapping":    {providers.CodeInvalid, providers.ScopeMachine, ""},
	"InvalidKeyPair.NotFound":      {providers.CodeInternal, providers.ScopeMachine, ""},
	"MissingParameter":             {providers.CodeInternal, providers.ScopeMachine, ""},
	"UnsupportedOperation":         {providers.CodeInvalid, providers.ScopeRegion, "the size cannot do what the settings ask for: look at confidential and sizes"},
	"ValidationException":          {providers.CodeInvalid, providers.ScopeMachine, ""},
	"TagLimitExceeded":             {providers.CodeInvalid, providers.ScopeMachine, "the resource has as many tags as it may: take some off"},
	"Encryption.KeyDisabled":       {providers.CodeInvalid, providers.ScopeAccount, "the key that encrypts volumes is disabled: look at kms_key"},
	"CustomerKeyHasBeenRevoked":    {providers.CodeInvalid, providers.ScopeAccount, "the key that encrypts volumes was revoked: look at kms_key"},
	"KMSKeyNotAccessibleException": {providers.CodeDenied, providers.ScopeAccount, "allow the key that encrypts volumes: look at kms_key"},
}
