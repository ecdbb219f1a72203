package defendersim

// entraErrors is Entra ID's table of errors, as far as an unattended client meets them: the number after AADSTS, the
// OAuth error beside it, the status, and the text in words of our own.
var entraErrors = map[int]struct {
	error  string
	status int
	text   string
}{
	// Permanent until an operator acts.
	7000215: {"invalid_client", 401, "Invalid client secret provided. Send the secret's value, not the secret's id."},
	7000222: {"invalid_client", 401, "The provided client secret keys are expired."},
	7000218: {"invalid_client", 401,
		"The request body must contain the parameter 'client_assertion' or 'client_secret'."},
	7000229: {"invalid_client", 401, "The client application is missing service principal in the tenant."},
	700016:  {"unauthorized_client", 400, "The application was not found in the directory."},
	70001:   {"unauthorized_client", 400, "The application is disabled."},
	7000112: {"unauthorized_client", 400, "The application is disabled."},
	90002:   {"invalid_request", 400, "The tenant was not found. Check the tenant id and the cloud."},
	500011:  {"invalid_resource", 400, "The resource principal was not found in the tenant."},
	65001:   {"invalid_grant", 400, "The user or administrator has not consented to use the application."},
	650057: {"invalid_resource", 400,
		"The resource is not listed in the permissions of the application's registration."},
	700027: {"invalid_client", 401, "The certificate that signed the client assertion is not registered."},
	50012:  {"invalid_client", 401, "Authentication failed."},
	50013:  {"invalid_grant", 400, "The assertion is not valid."},
	500133: {"invalid_grant", 400, "The assertion is not within its valid time range."},
	700024: {"invalid_client", 401, "The client assertion is not within its valid time range."},
	53003:  {"invalid_grant", 400, "Access has been blocked by conditional access policies."},
	70008:  {"invalid_grant", 400, "The refresh token has expired."},
	700082: {"invalid_grant", 400, "The refresh token has expired due to inactivity."},
	50173:  {"invalid_grant", 400, "The grant was revoked."},
	54005:  {"invalid_grant", 400, "The authorization code was already used."},

	// Grants and assertions, in the finer numbers of the real one.
	700021: {"invalid_client", 401, "The issuer and subject of the client assertion must be the application's id."},
	700023: {"invalid_client", 401, "The audience of the client assertion is not this endpoint."},
	700025: {"invalid_client", 401, "The client is public, so no credential should be presented."},
	70023:  {"invalid_client", 401, "The federated token was not accepted."},
	700222: {"invalid_client", 401, "AAD-issued tokens may not be used for federated identity flows."},
	900023: {"invalid_request", 400,
		"Specified tenant identifier is neither a valid DNS name, nor a valid external domain."},
	90038:   {"invalid_request", 400, "The specified tenant belongs to another national cloud."},
	900382:  {"invalid_request", 400, "Confidential Client is not supported in Cross Cloud request."},
	50194:   {"unauthorized_client", 400, "Application is not configured as a multi-tenant application."},
	70021:   {"invalid_request", 400, "No matching federated identity record found for presented assertion."},
	700211:  {"invalid_client", 401, "No matching federated identity record found for presented assertion issuer."},
	700212:  {"invalid_client", 401, "No matching federated identity record found for presented assertion audience."},
	700213:  {"invalid_client", 401, "No matching federated identity record found for presented assertion subject."},
	50027:   {"invalid_client", 401, "The JWT is malformed or lacks a required claim."},
	70000:   {"invalid_grant", 400, "The provided grant is invalid or was made for another client."},
	500112:  {"invalid_client", 401, "The reply address does not match the one of the authorization."},
	501481:  {"invalid_grant", 400, "The code_verifier does not match the code_challenge of the authorization."},
	9002313: {"invalid_grant", 400, "Invalid request. The request is malformed or invalid."},

	// The page on which a person logs in.
	50011:  {"invalid_request", 400, "The redirect URI is not registered for the application."},
	50147:  {"invalid_request", 400, "The size or the method of the code_challenge is not valid."},
	65004:  {"access_denied", 400, "The user declined to consent to access the application."},
	700054: {"unsupported_response_type", 400, "The response type is not enabled for the application."},

	// Malformed requests.
	900144: {"invalid_request", 400, "The request body lacks a required parameter."},
	900561: {"invalid_request", 400, "The endpoint only accepts POST requests."},
	901002: {"invalid_request", 400, "The 'resource' request parameter is not supported."},
	70003:  {"unsupported_grant_type", 400, "The grant type is not supported."},
	1002012: {"invalid_scope", 400,
		"The scope is not valid: client credential flows need the resource with the suffix /.default."},

	// Transient.
	50196: {"invalid_request", 400,
		"The server ended the request because the client loops: it asked for the same too often."},
	90055: {"temporarily_unavailable", 429, "The tenant is throttled."},
	50033: {"temporarily_unavailable", 503, "A transient error occurred. Try again."},
	90006: {"temporarily_unavailable", 503, "The service is temporarily unavailable."},
	90012: {"temporarily_unavailable", 503, "The request has timed out."},
	90024: {"temporarily_unavailable", 503, "The request budget is exceeded."},
	90033: {"temporarily_unavailable", 503, "A transient error has occurred in the directory."},
}

// entraForStatus is the error that a bare status has on a token endpoint.
func entraForStatus(status int) int {
	switch {
	case status == 401:
		return 7000215
	case status == 429:
		return 90055
	case status >= 500:
		return 90033
	}
	return 900144
}
