package aws

import (
	"context"
	"crypto/x509"
	"encoding/base64"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// EndorsementKey answers the key on P-384 of the instance's NitroTPM, which has
// no certificate of it:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetInstanceTpmEkPub.html
func (p *Provider) EndorsementKey(ctx context.Context, id providers.MachineID) ([]byte, error) {
	if err := checkMachine(id); err != nil {
		return nil, err
	}
	s, err := p.ready()
	if err != nil {
		return nil, err
	}
	f, err := p.find(ctx, s, id)
	if err != nil {
		return nil, err
	}
	out, err := s.ec2.GetInstanceTpmEkPub(ctx, &ec2.GetInstanceTpmEkPubInput{
		InstanceId: f.instances[0].InstanceId, KeyType: types.EkPubKeyTypeEccSecP384, KeyFormat: types.EkPubKeyFormatDer,
	})
	if err != nil {
		return nil, refusal.From("asking for the endorsement key", err, refusal.Repeatable)
	}
	key, err := base64.StdEncoding.DecodeString(aws.ToString(out.KeyValue))
	if err == nil {
		_, err = x509.ParsePKIXPublicKey(key)
	}
	if err != nil {
		return nil, providers.Errorf(providers.CodeInternal, "reading the endorsement key of %s: %s", aws.ToString(f.instances[0].InstanceId), err)
	}
	return key, nil
}
