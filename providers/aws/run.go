package aws

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// launch is what RunInstances is asked with.
type launch struct {
	req   providers.CreateRequest
	size  string
	image *types.Image
	group string
	dead  []types.Instance
}

// token is the client token: the same for whatever repeats this machine from
// this spec in this subnet. What EC2 ended before it started was another try.
func (l launch) token(in subnet) string {
	h := sha256.New()
	h.Write([]byte(strings.Join([]string{string(l.req.Installation), string(l.req.Machine), l.req.Spec.Hash().String(), in.id}, "\n")))
	for _, i := range l.dead {
		h.Write([]byte("\n" + aws.ToString(i.InstanceId)))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// run asks for the instance in each subnet until one has room.
func (s *site) run(ctx context.Context, l launch, places []subnet) (*types.Instance, error) {
	var last error
	for _, in := range places {
		out, err := s.ec2.RunInstances(ctx, s.runInput(l, in))
		if err == nil {
			return &out.Instances[0], nil
		}
		last = refusal.From("making the instance in "+in.zone, err, refusal.Makes)
		if providers.CodeOf(last) != providers.CodeCapacity {
			return nil, last
		}
	}
	return nil, last
}

func (s *site) runInput(l launch, in subnet) *ec2.RunInstancesInput {
	t := tagsFor(l.req)
	root := types.BlockDeviceMapping{DeviceName: l.image.RootDeviceName, Ebs: &types.EbsBlockDevice{
		DeleteOnTermination: aws.Bool(true), VolumeType: types.VolumeTypeGp3, VolumeSize: rootSize(l.image),
	}}
	data := types.BlockDeviceMapping{DeviceName: aws.String(dataDevice), Ebs: &types.EbsBlockDevice{
		// Delete decides what becomes of it, and nobody else.
		DeleteOnTermination: aws.Bool(false), VolumeType: types.VolumeTypeGp3,
		VolumeSize: aws.Int32(gibOf(l.req.Spec.DataBytes)), Encrypted: aws.Bool(true), KmsKeyId: optional(s.settings.KMSKey),
	}}
	out := &ec2.RunInstancesInput{
		ImageId: l.image.ImageId, InstanceType: types.InstanceType(l.size), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		ClientToken: aws.String(l.token(in)),
		UserData:    aws.String(base64.StdEncoding.EncodeToString(l.req.Spec.Config)),
		NetworkInterfaces: []types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: aws.Int32(0), SubnetId: aws.String(in.id), Groups: []string{l.group},
			DeleteOnTermination: aws.Bool(true), AssociatePublicIpAddress: aws.Bool(false),
		}},
		BlockDeviceMappings: []types.BlockDeviceMapping{root, data},
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired,
			HttpPutResponseHopLimit: aws.Int32(1),
		},
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		TagSpecifications:                 t.on(types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface),
	}
	if s.settings.Market == marketSpot {
		out.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot}
		out.TagSpecifications = append(out.TagSpecifications, t.on(types.ResourceTypeSpotInstancesRequest)...)
	}
	if s.settings.Confidential == sevSNP {
		out.CpuOptions = &types.CpuOptionsRequest{AmdSevSnp: types.AmdSevSnpSpecificationEnabled}
	}
	return out
}

func rootSize(i *types.Image) *int32 {
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && aws.ToString(m.DeviceName) == aws.ToString(i.RootDeviceName) {
			return m.Ebs.VolumeSize
		}
	}
	return nil
}

// gibOf is how many GiB hold so many bytes.
func gibOf(bytes int64) int32 { return int32((bytes + gib - 1) / gib) } //nolint:gosec // at most maxData

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
