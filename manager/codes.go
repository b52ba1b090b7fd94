package manager

// Code is a stable error code: three capitals and four digits. Clients match
// on it; texts may change. A Code is itself an error so that it can be the
// target of errors.Is.
type Code string

// Error implements error.
func (c Code) Error() string { return string(c) }

// Language selects the language of messages.
type Language uint8

// Languages.
const (
	English Language = iota
	Japanese
)

// Codes. COM: any request; AUT: authentication; NAP: entries and connections;
// SEM: the device's session.
const (
	CodeInternal         Code = "COM0001"
	CodeBadBody          Code = "COM0002"
	CodeUnknownPath      Code = "COM0003"
	CodeMethodNotAllowed Code = "COM0004"
	CodeBodyTooLarge     Code = "COM0005"
	CodeBadLimit         Code = "COM0006"
	CodeBadPageKey       Code = "COM0007"
	CodeNotReady         Code = "COM0008"
	CodeBadQuery         Code = "COM0009"

	CodeAuthFailed      Code = "AUT0001"
	CodeTokenRequired   Code = "AUT0002"
	CodeBadToken        Code = "AUT0003"
	CodeBadTokenTimeout Code = "AUT0004"

	CodeNoDestination     Code = "NAP0001"
	CodeBadIMSI           Code = "NAP0002"
	CodeBadPort           Code = "NAP0003"
	CodeBadDuration       Code = "NAP0004"
	CodeBadRanges         Code = "NAP0005"
	CodeUnknownSubscriber Code = "NAP0006"
	CodeUnknownSIM        Code = "NAP0007"
	CodeUnknownEntry      Code = "NAP0008"
	CodeNoEntries         Code = "NAP0009"
	CodeTLSUnsupported    Code = "NAP0010"
	CodeBadService        Code = "NAP0011"
	CodeBadProtocol       Code = "NAP0012"
	CodeNoOuterRelay      Code = "NAP0013"
	CodeNoFreePort        Code = "NAP0014"
	CodeRelayRefused      Code = "NAP0015"
	CodeBadEntryAddress   Code = "NAP0016"

	CodeEntryExpired      Code = "NAP0020"
	CodeNoInnerRelay      Code = "NAP0021"
	CodeManagerAway       Code = "NAP0022"
	CodeRelayNotAttached  Code = "NAP0023"
	CodeBadRelay          Code = "NAP0024"
	CodeRelayUnauthorised Code = "NAP0025"

	// Why a relayed connection failed: the error log shows these.
	CodeConnDeviceReset          Code = "NAP0101"
	CodeConnExpired              Code = "NAP0102"
	CodeConnRevoked              Code = "NAP0103"
	CodeConnIdle                 Code = "NAP0104"
	CodeConnStopped              Code = "NAP0105"
	CodeConnSourceDenied         Code = "NAP0106"
	CodeConnRateLimited          Code = "NAP0107"
	CodeConnTooMany              Code = "NAP0108"
	CodeConnOverloaded           Code = "NAP0109"
	CodeConnAuditUnavailable     Code = "NAP0110"
	CodeConnTLSHandshake         Code = "NAP0111"
	CodeConnTLSTimeout           Code = "NAP0112"
	CodeConnCertificateMissing   Code = "NAP0113"
	CodeConnCertificateExpired   Code = "NAP0114"
	CodeConnCertificateUntrusted Code = "NAP0115"
	CodeConnCertificateKey       Code = "NAP0116"
	CodeConnCertificateRevoked   Code = "NAP0117"
	CodeConnCredentialRevoked    Code = "NAP0118"
	CodeConnUnknownEntry         Code = "NAP0119"
	CodeConnUnknownTarget        Code = "NAP0120"
	CodeConnBadRequest           Code = "NAP0121"
	CodeConnDeviceRefused        Code = "NAP0122"
	CodeConnDeviceUnreachable    Code = "NAP0123"
	CodeConnDeviceTimeout        Code = "NAP0124"
	CodeConnNoInnerRelay         Code = "NAP0125"
	CodeConnInnerUnreachable     Code = "NAP0126"
	CodeConnInnerRefused         Code = "NAP0127"
	CodeConnTicketInvalid        Code = "NAP0128"
	CodeConnDraining             Code = "NAP0129"
	CodeConnManagerAway          Code = "NAP0130"
	CodeConnTimeout              Code = "NAP0131"
	CodeConnFailed               Code = "NAP0132"

	CodeDeviceOffline Code = "SEM0016"
)

type codeText struct {
	kind   Kind
	en, ja string
}

// codes is the one table of codes; it never changes.
var codes = map[Code]codeText{
	CodeInternal:         {KindInternal, "An internal error occurred.", "内部エラーが発生しました。"},
	CodeBadBody:          {KindInvalid, "The request body is not valid: %s.", "リクエストボディが不正です: %s"},
	CodeUnknownPath:      {KindNotFound, "There is no such resource.", "指定されたリソースはありません。"},
	CodeMethodNotAllowed: {KindMethodNotAllowed, "The method %s is not allowed here.", "メソッド %s は使用できません。"},
	CodeBodyTooLarge:     {KindTooLarge, "The request body is larger than %d bytes.", "リクエストボディが %d バイトを超えています。"},
	CodeBadLimit:         {KindInvalid, "limit must be a whole number of at least 1.", "limit には 1 以上の整数を指定してください。"},
	CodeBadPageKey:       {KindInvalid, "last_evaluated_key is not valid.", "last_evaluated_key が不正です。"},
	CodeNotReady:         {KindUnavailable, "The manager is starting.", "起動処理中です。"},
	CodeBadQuery:         {KindInvalid, "The query parameter %s is not valid.", "クエリパラメータ %s が不正です。"},

	CodeAuthFailed:      {KindUnauthenticated, "Authentication failed.", "認証に失敗しました。"},
	CodeTokenRequired:   {KindUnauthenticated, "The headers X-Soracom-API-Key and X-Soracom-Token are both required.", "X-Soracom-API-Key ヘッダーと X-Soracom-Token ヘッダーの両方が必要です。"},
	CodeBadToken:        {KindUnauthenticated, "The API key or token is not valid or has expired.", "API キーまたはトークンが無効か、有効期限が切れています。"},
	CodeBadTokenTimeout: {KindInvalid, "tokenTimeoutSeconds must be from 1 to %d.", "tokenTimeoutSeconds には 1 から %d までの値を指定してください。"},

	CodeNoDestination:     {KindInvalid, "destination with an imsi or a simId is required.", "destination に imsi または simId を指定してください。"},
	CodeBadIMSI:           {KindInvalid, "The IMSI is not valid: 6 to 15 digits are required.", "IMSI が不正です。6 桁から 15 桁の数字を指定してください。"},
	CodeBadPort:           {KindInvalid, "destination.port must be from 1 to 65535.", "destination.port には 1 から 65535 までの値を指定してください。"},
	CodeBadDuration:       {KindInvalid, "duration must be a whole number of seconds from 1 to %d.", "duration には 1 から %d までの整数 (秒) を指定してください。"},
	CodeBadRanges:         {KindInvalid, "source.ipRanges must be at most %d CIDR ranges; this one is not: %s.", "source.ipRanges には最大 %d 個の CIDR を指定してください。不正な値: %s"},
	CodeUnknownSubscriber: {KindNotFound, "There is no subscriber with IMSI %s.", "IMSI %s の回線が見つかりません。"},
	CodeUnknownSIM:        {KindNotFound, "There is no SIM with ID %s.", "SIM ID %s の SIM が見つかりません。"},
	CodeUnknownEntry:      {KindNotFound, "There is no port mapping at %s.", "%s のポートマッピングが見つかりません。"},
	CodeNoEntries:         {KindNotFound, "There is no port mapping for %s.", "%s のポートマッピングはありません。"},
	CodeTLSUnsupported:    {KindInvalid, "tlsRequired is not supported.", "tlsRequired は利用できません。"},
	CodeBadService:        {KindInvalid, "destination.service %q is not supported.", "destination.service %q は利用できません。"},
	CodeBadProtocol:       {KindInvalid, "Only TCP can be relayed, not %q.", "中継できるのは TCP のみです。%q は利用できません。"},
	CodeNoOuterRelay:      {KindUnavailable, "No relay is available.", "利用可能な中継装置がありません。"},
	CodeNoFreePort:        {KindUnavailable, "No relay has a free port.", "中継装置に空きポートがありません。"},
	CodeRelayRefused:      {KindUnavailable, "The relay could not open the port.", "中継装置がポートを開けませんでした。"},
	CodeBadEntryAddress:   {KindInvalid, "%q is not an IP address and port.", "%q は IP アドレスとポートではありません。"},

	CodeEntryExpired:      {KindNotFound, "The port mapping has expired.", "ポートマッピングの有効期限が切れています。"},
	CodeNoInnerRelay:      {KindUnavailable, "No inner relay serves the user plane function %s.", "UPF %s を担当する内側の中継装置がありません。"},
	CodeManagerAway:       {KindUnavailable, "The manager cannot be reached.", "管理装置に接続できません。"},
	CodeRelayNotAttached:  {KindUnavailable, "The relay is not attached.", "中継装置が登録されていません。"},
	CodeBadRelay:          {KindInvalid, "The relay's registration is not valid: %s.", "中継装置の登録内容が不正です: %s"},
	CodeRelayUnauthorised: {KindUnauthenticated, "The relay's credentials are not valid.", "中継装置の認証に失敗しました。"},

	CodeDeviceOffline: {KindOffline, "The specified subscriber is offline.", "指定された回線はオフラインです。"},

	CodeConnDeviceReset:          {KindUnavailable, "The device reset the connection.", "デバイスが接続をリセットしました。"},
	CodeConnExpired:              {KindUnavailable, "The port mapping expired.", "ポートマッピングの有効期限が切れました。"},
	CodeConnRevoked:              {KindUnavailable, "The port mapping was deleted.", "ポートマッピングが削除されました。"},
	CodeConnIdle:                 {KindUnavailable, "The connection carried no data for too long.", "無通信のため接続を切断しました。"},
	CodeConnStopped:              {KindUnavailable, "The relay stopped.", "中継装置が停止しました。"},
	CodeConnSourceDenied:         {KindUnavailable, "The source address is outside the allowed ranges.", "接続元アドレスが許可された範囲にありません。"},
	CodeConnRateLimited:          {KindUnavailable, "There were too many accesses in a short time.", "短時間にアクセスが多すぎます。"},
	CodeConnTooMany:              {KindUnavailable, "The port mapping has too many connections.", "ポートマッピングの同時接続数が上限に達しています。"},
	CodeConnOverloaded:           {KindUnavailable, "The relay has too many connections.", "中継装置の同時接続数が上限に達しています。"},
	CodeConnAuditUnavailable:     {KindUnavailable, "The relay cannot record accesses.", "中継装置がアクセスを記録できません。"},
	CodeConnTLSHandshake:         {KindUnavailable, "The TLS handshake failed.", "TLS ハンドシェイクに失敗しました。"},
	CodeConnTLSTimeout:           {KindUnavailable, "The TLS handshake took too long.", "TLS ハンドシェイクがタイムアウトしました。"},
	CodeConnCertificateMissing:   {KindUnavailable, "A client certificate is required.", "クライアント証明書が必要です。"},
	CodeConnCertificateExpired:   {KindUnavailable, "The client certificate is not in force.", "クライアント証明書の有効期間外です。"},
	CodeConnCertificateUntrusted: {KindUnavailable, "The client certificate was issued by another authority.", "クライアント証明書の発行者が異なります。"},
	CodeConnCertificateKey:       {KindUnavailable, "The client certificate's signature does not verify with the credential's key.", "クライアント証明書の署名を検証できません。"},
	CodeConnCertificateRevoked:   {KindUnavailable, "The client certificate has been revoked.", "クライアント証明書は失効しています。"},
	CodeConnCredentialRevoked:    {KindUnavailable, "The credential of the port mapping has been revoked.", "ポートマッピングの認証情報は失効しています。"},
	CodeConnUnknownEntry:         {KindUnavailable, "There is no port mapping at this address.", "このアドレスのポートマッピングはありません。"},
	CodeConnUnknownTarget:        {KindUnavailable, "The port mapping does not lead to this device.", "このデバイスはポートマッピングの対象ではありません。"},
	CodeConnBadRequest:           {KindUnavailable, "The client did not send an HTTP/2 CONNECT request.", "HTTP/2 CONNECT リクエストではありません。"},
	CodeConnDeviceRefused:        {KindUnavailable, "The device refused the connection.", "デバイスが接続を拒否しました。"},
	CodeConnDeviceUnreachable:    {KindUnavailable, "The device cannot be reached.", "デバイスに到達できません。"},
	CodeConnDeviceTimeout:        {KindUnavailable, "The device did not answer in time.", "デバイスの応答がありません。"},
	CodeConnNoInnerRelay:         {KindUnavailable, "No inner relay serves the device.", "デバイスを担当する内側の中継装置がありません。"},
	CodeConnInnerUnreachable:     {KindUnavailable, "The inner relay cannot be reached.", "内側の中継装置に接続できません。"},
	CodeConnInnerRefused:         {KindUnavailable, "The inner relay refused the connection.", "内側の中継装置が接続を拒否しました。"},
	CodeConnTicketInvalid:        {KindUnavailable, "The inner relay did not accept the ticket.", "内側の中継装置がチケットを受け付けませんでした。"},
	CodeConnDraining:             {KindUnavailable, "The relay is stopping.", "中継装置は停止処理中です。"},
	CodeConnManagerAway:          {KindUnavailable, "The manager could not be asked.", "管理装置に問い合わせできませんでした。"},
	CodeConnTimeout:              {KindUnavailable, "Setting up the connection took too long.", "接続の確立がタイムアウトしました。"},
	CodeConnFailed:               {KindUnavailable, "The connection could not be set up.", "接続を確立できませんでした。"},
}
