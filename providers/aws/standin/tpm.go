package standin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
)

// tpmKey answers the endorsement key of an instance that was made from an image
// with a TPM. moto does not know the action:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetInstanceTpmEkPub.html
//
// What EC2 answers for an instance without a TPM is not documented; the code here
// is a guess.
func (c *Cloud) tpmKey(in *call) (answer, *refusal) {
	instance, kind, format := in.form.Get("InstanceId"), in.form.Get("KeyType"), in.form.Get("KeyFormat")
	if kind != "ecc-sec-p384" || format != "der" {
		return answer{}, refuse(http.StatusBadRequest, "InvalidParameterValue", "this stand-in has keys of type ecc-sec-p384 as der, not %q as %q", kind, format)
	}
	found, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "DescribeInstances", url.Values{"InstanceId.1": {instance}})
	if err != nil {
		return answer{}, refuse(http.StatusBadRequest, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", instance)
	}
	image := found.value("reservationSet", "item", "instancesSet", "item", "imageId")
	c.mu.Lock()
	late := c.trouble.late[instance] && c.o.Now().Before(c.trouble.lagUntil)
	supported := c.images[image].tpm == "v2.0"
	c.mu.Unlock()
	switch {
	case late:
		return answer{}, refuse(http.StatusBadRequest, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", instance)
	case !supported:
		return answer{}, refuse(http.StatusBadRequest, "UnsupportedOperation", "Instance %s has no NitroTPM", instance)
	}
	key, err := c.keyOf(in.r.Context(), instance)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	n := branch("GetInstanceTpmEkPubResponse", leaf("instanceId", instance), leaf("keyType", kind), leaf("keyFormat", format),
		leaf("keyValue", base64.StdEncoding.EncodeToString(key)))
	return answer{http.StatusOK, http.Header{"Content-Type": {"text/xml;charset=UTF-8"}}, n.bytes()}, nil
}

// keyOf is the key of the TPM that runs for an instance, or where none does one
// that was drawn for it.
func (c *Cloud) keyOf(ctx context.Context, instance string) ([]byte, error) {
	if c.o.Guests != nil {
		return c.o.Guests.EndorsementKey(ctx, instance)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, ok := c.keys[instance]; ok {
		return key, nil
	}
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKIXPublicKey(private.Public())
	if err == nil {
		c.keys[instance] = key
	}
	return key, err
}
