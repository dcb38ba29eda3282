package main

import (
	"log/slog"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/stratum/port"
)

// stratumCertificate returns the certificate of the Stratum port, which this
// box makes for itself if it was given none; nil if TLS is off.
func stratumCertificate(cfg *configs.Config, log *slog.Logger) (*port.Certificate, error) {
	if cfg.Stratum.TLS == configs.TLSOff {
		return nil, nil
	}
	cert, key := cfg.Path(cfg.Stratum.Cert), cfg.Path(cfg.Stratum.Key)
	if cert == "" {
		own, err := port.SelfSigned(cfg.Path(cfg.Data))
		if err != nil {
			return nil, err
		}
		cert, key = own, own
	}
	return port.LoadCertificate(cert, key, log)
}
