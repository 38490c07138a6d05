package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	tlsDir    = "tls"
	certYears = 10
)

// certificate names the files of the API's certificate and key. It signs itself, so a
// client is given the certificate and trusts that one alone. It is made once, and again
// when the API is to answer at another address.
func certificate(dir string, hosts []string) (cert, key string, err error) {
	dir = filepath.Join(dir, tlsDir)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if fits(cert, hosts) {
		return cert, key, nil
	}
	if err := safefile.MakeDir(dir); err != nil {
		return "", "", err
	}
	certPEM, keyPEM, err := makeCertificate(hosts)
	if err != nil {
		return "", "", err
	}
	return cert, key, errors.Join(safefile.Replace(key, keyPEM), safefile.Replace(cert, certPEM))
}

func fits(path string, hosts []string) bool {
	b, err := safefile.ReadFile(path)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || time.Now().AddDate(1, 0, 0).After(c.NotAfter) {
		return false
	}
	for _, h := range hosts {
		if c.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

func makeCertificate(hosts []string) (cert, key []byte, err error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "IpfsCloud Egress"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(certYears, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &priv.PublicKey, priv)
	if err != nil {
		return nil, nil, err
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	var c, k bytes.Buffer
	err = errors.Join(
		pem.Encode(&c, &pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.Encode(&k, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}))
	return c.Bytes(), k.Bytes(), err
}
