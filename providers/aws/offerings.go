package aws

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// The quotas of virtual CPUs of the standard families, which all offered types
// should be of:
// https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
const (
	quotaOnDemand = "L-1216C47A"
	quotaSpot     = "L-34B43A08"
	standard      = "acdhimrtz"
)

// Offerings are the types of the settings that the region has.
func (p *Provider) Offerings(ctx context.Context) ([]providers.Offering, error) {
	s, err := p.ready()
	if err != nil {
		return nil, err
	}
	known, err := s.types(ctx)
	if err != nil {
		return nil, err
	}
	left, err := s.quota(ctx)
	if err != nil {
		return nil, err
	}
	var out []providers.Offering
	for _, size := range s.settings.Sizes {
		t, ok := known[size]
		if !ok || s.settings.Confidential == sevSNP && !hasSNP(t) {
			continue
		}
		o := providers.Offering{Region: s.settings.Region, Size: size, Available: -1, Confidential: s.settings.Confidential}
		if t.VCpuInfo != nil {
			o.VCPUs = int(aws.ToInt32(t.VCpuInfo.DefaultVCpus))
		}
		if t.MemoryInfo != nil {
			o.MemoryBytes = aws.ToInt64(t.MemoryInfo.SizeInMiB) << 20
		}
		if left >= 0 && o.VCPUs > 0 && isStandard(size) {
			o.Available = left / o.VCPUs
		}
		s.price(ctx, &o, p.now())
		out = append(out, o)
	}
	if len(out) == 0 {
		e := providers.Errorf(providers.CodeInvalid, "region %s has none of the sizes %s", s.settings.Region, strings.Join(s.settings.Sizes, ", ")).In(providers.ScopeRegion)
		e.Hint = "look at sizes and confidential in the settings"
		return nil, e
	}
	return out, nil
}

func hasSNP(t types.InstanceTypeInfo) bool {
	return t.ProcessorInfo != nil && slices.Contains(t.ProcessorInfo.SupportedFeatures, types.SupportedAdditionalProcessorFeatureAmdSevSnp)
}

func isStandard(size string) bool { return strings.ContainsRune(standard, rune(size[0])) }

// types are those of the settings' sizes that the region has. A filter leaves
// out what is unknown, where naming it would be refused.
func (s *site) types(ctx context.Context) (map[string]types.InstanceTypeInfo, error) {
	out := map[string]types.InstanceTypeInfo{}
	pages := ec2.NewDescribeInstanceTypesPaginator(s.ec2, &ec2.DescribeInstanceTypesInput{
		MaxResults: aws.Int32(100), Filters: []types.Filter{{Name: aws.String("instance-type"), Values: s.settings.Sizes}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, refusal.From("asking for the instance types", err, refusal.Repeatable)
		}
		for _, t := range page.InstanceTypes {
			out[string(t.InstanceType)] = t
		}
	}
	return out, nil
}

// quota is how many virtual CPUs more the account may have; -1 where that is not
// to be known.
func (s *site) quota(ctx context.Context) (int, error) {
	code := quotaOnDemand
	if s.settings.Market == marketSpot {
		code = quotaSpot
	}
	out, err := s.quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("ec2"), QuotaCode: aws.String(code)})
	if err != nil || out.Quota == nil || out.Quota.Value == nil {
		// Asking is a courtesy: what is over the quota is refused by EC2.
		return -1, nil //nolint:nilerr // -1 says that it is not known
	}
	used, err := s.instances(ctx, []types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}}})
	if err != nil {
		return -1, err
	}
	left := int(*out.Quota.Value)
	for _, i := range used {
		spot := i.InstanceLifecycle == types.InstanceLifecycleTypeSpot
		if i.CpuOptions != nil && isStandard(string(i.InstanceType)) && spot == (s.settings.Market == marketSpot) {
			left -= int(aws.ToInt32(i.CpuOptions.CoreCount) * aws.ToInt32(i.CpuOptions.ThreadsPerCore))
		}
	}
	return max(0, left), nil
}

// price fills in what an offering costs, where it is known.
func (s *site) price(ctx context.Context, o *providers.Offering, now time.Time) {
	if s.settings.Market == marketSpot {
		return
	}
	if micros, ok := s.asked(ctx, o.Size, now); ok {
		o.MicrosPerHour, o.Currency = micros, "USD"
		return
	}
	if micros, ok := tabled[o.Region][o.Size]; ok {
		o.MicrosPerHour, o.Currency, o.PricedAt = micros, "USD", tabledAt
	}
}
