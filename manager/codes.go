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

// Codes. COM: any request; AUT: authentication; SAM: operators, users and what they
// may do; NAP: entries and connections; SEM: the device's session; SIM, GRP, EVT, STA: SIMs,
// groups, event handlers and statistics.
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
	CodeNotOffered       Code = "COM0010"
	CodeRepeatedWrite    Code = "COM0011"
	CodeBadText          Code = "COM0012"

	CodeAuthFailed      Code = "AUT0001"
	CodeTokenRequired   Code = "AUT0002"
	CodeBadToken        Code = "AUT0003"
	CodeBadTokenTimeout Code = "AUT0004"
	CodeNotPermitted    Code = "AUT0005"
	CodeRootOnly        Code = "AUT0006"
	CodeOTPRequired     Code = "AUT0007"
	CodeOTPWrong        Code = "AUT0008"
	CodeTooManyLogins   Code = "AUT0009"
	CodeSwitchRefused   Code = "AUT0010"
	CodeBadSwitch       Code = "AUT0011"
	CodeBadResetToken   Code = "AUT0012"
	CodeResetExpired    Code = "AUT0013"
	CodeNotPlatform     Code = "AUT0014"

	CodeUnknownOperator Code = "SAM0001"
	CodeUnknownUser     Code = "SAM0002"
	CodeUserExists      Code = "SAM0003"
	CodeBadUserName     Code = "SAM0004"
	CodeUnknownRole     Code = "SAM0005"
	CodeRoleExists      Code = "SAM0006"
	CodeBadRoleID       Code = "SAM0007"
	CodeRoleInUse       Code = "SAM0008"
	CodeBadPermission   Code = "SAM0009"
	CodeBadTrustPolicy  Code = "SAM0010"
	CodeUnknownAuthKey  Code = "SAM0011"
	CodeTooManyAuthKeys Code = "SAM0012"
	CodeBadPassword     Code = "SAM0013"
	CodeWrongPassword   Code = "SAM0014"
	CodeNoPassword      Code = "SAM0015"
	CodePasswordExists  Code = "SAM0016"
	CodeMFAActive       Code = "SAM0017"
	CodeMFANotRequested Code = "SAM0018"
	CodeBadDescription  Code = "SAM0019"
	CodeTooManyAccounts Code = "SAM0020"
	CodeNoPermission    Code = "SAM0021"
	CodeNoTrustPolicy   Code = "SAM0022"
	CodeRoleNotAttached Code = "SAM0023"
	CodeBadEmail        Code = "SAM0024"
	CodeWrongOTP        Code = "SAM0025"
	CodeTooManyTries    Code = "SAM0026"

	CodeNoDestination     Code = "NAP0001"
	CodeBadIMSI           Code = "NAP0002"
	CodeBadPort           Code = "NAP0003"
	CodeBadDuration       Code = "NAP0004"
	CodeBadRanges         Code = "NAP0005"
	CodeUnknownSubscriber Code = "NAP0006"
	CodeUnknownSIM        Code = "NAP0007"
	CodeUnknownEntry      Code = "NAP0008"
	CodeNoEntries         Code = "NAP0009"
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
	CodeUnknownRelay      Code = "NAP0026"
	CodeDrainFailed       Code = "NAP0027"

	CodeUnknownCredential  Code = "NAP0030"
	CodeBadCredential      Code = "NAP0031"
	CodeCredentialKey      Code = "NAP0032"
	CodeManyCertificates   Code = "NAP0033"
	CodeCredentialExpired  Code = "NAP0034"
	CodeCredentialRevoked  Code = "NAP0035"
	CodeBadSerial          Code = "NAP0036"
	CodeTooManyCredentials Code = "NAP0037"

	CodeBadContract Code = "NAP0040"
	CodeNoContract  Code = "NAP0041"
	CodeBadResource Code = "NAP0042"

	CodeTargetsNeedTLS     Code = "NAP0050"
	CodeTargetsAlone       Code = "NAP0051"
	CodeTooManyTargets     Code = "NAP0052"
	CodeTargetTwice        Code = "NAP0053"
	CodeTooManyRequests    Code = "NAP0054"
	CodeCredentialNeedsTLS Code = "NAP0055"

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
	CodeConnDeviceLeft           Code = "NAP0133"

	CodeDeviceOffline Code = "SEM0016"

	// SIMs, groups, event handlers and statistics.
	CodeSIMStatus            Code = "SIM0001"
	CodeTerminationProtected Code = "SIM0002"
	CodeBadSpeedClass        Code = "SIM0003"
	CodeBadIMEI              Code = "SIM0004"
	CodeNoIMEI               Code = "SIM0005"
	CodeBadExpiry            Code = "SIM0006"
	CodeNoExpiry             Code = "SIM0007"
	CodeNoTag                Code = "SIM0008"
	CodeBadTag               Code = "SIM0009"
	CodeBadPing              Code = "SIM0010"
	CodePingFailed           Code = "SIM0011"
	CodeBadSearch            Code = "SIM0012"
	CodeCoreAway             Code = "SIM0013"
	CodeCoreRefused          Code = "SIM0014"
	CodeUnknownSummary       Code = "SIM0015"

	CodeUnknownGroup    Code = "GRP0001"
	CodeBadNamespace    Code = "GRP0002"
	CodeGroupTooLarge   Code = "GRP0003"
	CodeNoConfiguration Code = "GRP0004"
	CodeTooManyGroups   Code = "GRP0005"

	CodeUnknownHandler    Code = "EVT0001"
	CodeBadHandler        Code = "EVT0002"
	CodeUnsupportedRule   Code = "EVT0003"
	CodeUnsupportedAction Code = "EVT0004"
	CodeTooManyHandlers   Code = "EVT0005"
	CodeNotIgnored        Code = "EVT0006"

	CodeBadPeriod Code = "STA0001"
	CodeBadTimes  Code = "STA0002"
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

	CodeNotOffered:    {KindNotFound, "This testbed does not offer %s.", "このテストベッドでは %s を提供していません。"},
	CodeRepeatedWrite: {KindConflict, "It was changed by another request at the same time.", "同時に別のリクエストで変更されました。"},
	CodeBadText:       {KindInvalid, "Texts must be UTF-8 without zero bytes.", "テキストはゼロバイトを含まない UTF-8 で指定してください。"},

	CodeAuthFailed:      {KindUnauthenticated, "Authentication failed.", "認証に失敗しました。"},
	CodeTokenRequired:   {KindUnauthenticated, "The headers X-Soracom-API-Key and X-Soracom-Token are both required.", "X-Soracom-API-Key ヘッダーと X-Soracom-Token ヘッダーの両方が必要です。"},
	CodeBadToken:        {KindUnauthenticated, "The API key or token is not valid or has expired.", "API キーまたはトークンが無効か、有効期限が切れています。"},
	CodeBadTokenTimeout: {KindInvalid, "tokenTimeoutSeconds must be from 1 to %d.", "tokenTimeoutSeconds には 1 から %d までの値を指定してください。"},
	CodeNotPermitted:    {KindForbidden, "You are not permitted to call %s.", "%s を呼び出す権限がありません。"},
	CodeRootOnly:        {KindForbidden, "Only the root user may call %s.", "%s はルートユーザーのみ呼び出せます。"},
	CodeOTPRequired:     {KindUnauthenticated, "A one-time password is required: mfaOTPCode.", "ワンタイムパスワード (mfaOTPCode) が必要です。"},
	CodeOTPWrong:        {KindUnauthenticated, "The one-time password is not valid.", "ワンタイムパスワードが正しくありません。"},
	CodeTooManyLogins:   {KindUnauthenticated, "There were too many attempts to log in. Try again later.", "ログインの試行が多すぎます。しばらくしてから再試行してください。"},
	CodeSwitchRefused:   {KindInvalid, "You cannot switch to this user.", "このユーザーにスイッチできません。"},
	CodeBadSwitch:       {KindInvalid, "operatorId and userName are required, and tokenTimeoutSeconds must be from %d to %d.", "operatorId と userName は必須です。tokenTimeoutSeconds には %d から %d までの値を指定してください。"},
	CodeBadResetToken:   {KindInvalid, "The password reset token is not valid.", "パスワードリセットトークンが不正です。"},
	CodeResetExpired:    {KindNotFound, "The password reset token has expired.", "パスワードリセットトークンの有効期限が切れています。"},

	CodeNotPlatform: {KindForbidden, "Only operators of the platform may do this.", "この操作はプラットフォームの運用者のみ実行できます。"},

	// What is refused about users, roles and the second factor is 400 where the SORACOM API
	// documents nothing else for the call.
	CodeUnknownOperator: {KindNotFound, "There is no operator with ID %s.", "オペレーター %s が見つかりません。"},
	CodeUnknownUser:     {KindNotFound, "There is no user %s.", "ユーザー %s が見つかりません。"},
	CodeUserExists:      {KindInvalid, "There is already a user %s.", "ユーザー %s は既に存在します。"},
	CodeBadUserName:     {KindInvalid, "A user name must have 1 to 128 letters, digits or any of _ + = , . @ - and start with a letter or digit.", "ユーザー名は英数字で始まる 1 から 128 文字の英数字または _ + = , . @ - で指定してください。"},
	CodeUnknownRole:     {KindNotFound, "There is no role %s.", "ロール %s が見つかりません。"},
	CodeRoleExists:      {KindInvalid, "There is already a role %s.", "ロール %s は既に存在します。"},
	CodeBadRoleID:       {KindInvalid, "A role ID must have 1 to 128 letters, digits or any of _ + = , . @ - and start with a letter or digit.", "ロール ID は英数字で始まる 1 から 128 文字の英数字または _ + = , . @ - で指定してください。"},
	CodeRoleInUse:       {KindInvalid, "The role %s is attached to users.", "ロール %s はユーザーに割り当てられています。"},
	CodeBadPermission:   {KindInvalid, "The permission is not valid: %s.", "パーミッションが不正です: %s"},
	CodeBadTrustPolicy:  {KindInvalid, "The trust policy is not valid: %s.", "信頼ポリシーが不正です: %s"},
	CodeUnknownAuthKey:  {KindNotFound, "There is no authentication key %s.", "認証キー %s が見つかりません。"},
	CodeTooManyAuthKeys: {KindConflict, "There are already %d authentication keys.", "認証キーが既に %d 個あります。"},
	CodeBadPassword:     {KindInvalid, "A password must have %d to %d characters.", "パスワードは %d 文字から %d 文字で指定してください。"},
	CodeWrongPassword:   {KindInvalid, "The current password is not right.", "現在のパスワードが正しくありません。"},
	CodeNoPassword:      {KindNotFound, "The user has no password.", "ユーザーにはパスワードが設定されていません。"},
	CodePasswordExists:  {KindConflict, "The user already has a password.", "ユーザーには既にパスワードが設定されています。"},
	CodeMFAActive:       {KindInvalid, "Multi-factor authentication is already active.", "多要素認証は既に有効です。"},
	CodeMFANotRequested: {KindInvalid, "Multi-factor authentication has not been requested.", "多要素認証の登録が開始されていません。"},
	CodeBadDescription:  {KindInvalid, "A description must have at most %d characters.", "説明は %d 文字以内で指定してください。"},
	CodeTooManyAccounts: {KindInvalid, "There are already %d of them.", "既に上限の %d 個に達しています。"},
	CodeNoPermission:    {KindNotFound, "The operator has no default permissions.", "オペレーターにデフォルトの権限は設定されていません。"},
	CodeNoTrustPolicy:   {KindInvalid, "The user has no trust policy.", "ユーザーに信頼ポリシーは設定されていません。"},
	CodeRoleNotAttached: {KindNotFound, "The role %s is not attached to the user.", "ロール %s はユーザーに割り当てられていません。"},
	CodeBadEmail:        {KindInvalid, "An email address is required.", "メールアドレスを指定してください。"},
	// AUT0008 and AUT0009 for who is logged in: 401 would say that the token is void.
	CodeWrongOTP:     {KindInvalid, "The one-time password is not valid.", "ワンタイムパスワードが正しくありません。"},
	CodeTooManyTries: {KindConflict, "There were too many attempts. Try again later.", "試行が多すぎます。しばらくしてから再試行してください。"},

	CodeNoDestination:     {KindInvalid, "destination with an imsi or a simId is required.", "destination に imsi または simId を指定してください。"},
	CodeBadIMSI:           {KindInvalid, "The IMSI is not valid: 6 to 15 digits are required.", "IMSI が不正です。6 桁から 15 桁の数字を指定してください。"},
	CodeBadPort:           {KindInvalid, "destination.port must be from 1 to 65535.", "destination.port には 1 から 65535 までの値を指定してください。"},
	CodeBadDuration:       {KindInvalid, "duration must be a whole number of seconds from 1 to %d.", "duration には 1 から %d までの整数 (秒) を指定してください。"},
	CodeBadRanges:         {KindInvalid, "source.ipRanges must be at most %d CIDR ranges: %s.", "source.ipRanges には最大 %d 個の CIDR を指定してください: %s"},
	CodeUnknownSubscriber: {KindNotFound, "There is no subscriber with IMSI %s.", "IMSI %s の回線が見つかりません。"},
	CodeUnknownSIM:        {KindNotFound, "There is no SIM with ID %s.", "SIM ID %s の SIM が見つかりません。"},
	CodeUnknownEntry:      {KindNotFound, "There is no port mapping at %s.", "%s のポートマッピングが見つかりません。"},
	CodeNoEntries:         {KindNotFound, "There is no port mapping for %s.", "%s のポートマッピングはありません。"},
	CodeBadService:        {KindInvalid, "destination.service %q is not supported.", "destination.service %q は利用できません。"},
	CodeBadProtocol:       {KindInvalid, "Only TCP can be relayed, not %q.", "中継できるのは TCP のみです。%q は利用できません。"},
	CodeNoOuterRelay:      {KindConflict, "No relay is available.", "利用可能な中継装置がありません。"},
	CodeNoFreePort:        {KindConflict, "No relay has a free port.", "中継装置に空きポートがありません。"},
	CodeRelayRefused:      {KindConflict, "The relay could not open the port.", "中継装置がポートを開けませんでした。"},
	CodeBadEntryAddress:   {KindInvalid, "%q is not an IP address and port.", "%q は IP アドレスとポートではありません。"},

	CodeEntryExpired:      {KindNotFound, "The port mapping has expired.", "ポートマッピングの有効期限が切れています。"},
	CodeNoInnerRelay:      {KindUnavailable, "No inner relay serves the user plane function %s.", "UPF %s を担当する内側の中継装置がありません。"},
	CodeManagerAway:       {KindUnavailable, "The manager cannot be reached.", "管理装置に接続できません。"},
	CodeRelayNotAttached:  {KindUnavailable, "The relay is not attached.", "中継装置が登録されていません。"},
	CodeBadRelay:          {KindInvalid, "The relay's registration is not valid: %s.", "中継装置の登録内容が不正です: %s"},
	CodeRelayUnauthorised: {KindUnauthenticated, "The relay's credentials are not valid.", "中継装置の認証に失敗しました。"},

	CodeUnknownRelay: {KindNotFound, "No outer relay with ID %s is attached.", "ID %s の外側の中継装置は接続されていません。"},
	CodeDrainFailed:  {KindFailed, "The relay %s did not confirm that it drains.", "中継装置 %s から停止処理を始めたという応答がありません。"},

	CodeUnknownCredential:  {KindNotFound, "There is no credential with ID %s.", "認証情報 %s が見つかりません。"},
	CodeBadCredential:      {KindInvalid, "The credential is not valid: %s.", "認証情報が不正です: %s"},
	CodeCredentialKey:      {KindInvalid, "The public key is not that of the CA certificate.", "公開鍵が CA 証明書のものと一致しません。"},
	CodeManyCertificates:   {KindInvalid, "Exactly one CA certificate is required, not %d.", "CA 証明書は 1 つだけ指定してください (%d 個指定されています)。"},
	CodeCredentialExpired:  {KindInvalid, "The CA certificate has expired or is not yet in force.", "CA 証明書が有効期間外です。"},
	CodeCredentialRevoked:  {KindInvalid, "The credential has been revoked.", "認証情報は失効しています。"},
	CodeBadSerial:          {KindInvalid, "%q is not a certificate's serial number in hexadecimal.", "%q は 16 進数の証明書シリアル番号ではありません。"},
	CodeTooManyCredentials: {KindInvalid, "There may be at most %d of them.", "登録できるのは最大 %d 個です。"},

	CodeBadContract: {KindInvalid, "There is no contract with name %q.", "契約 %q はありません。"},
	CodeNoContract:  {KindNotFound, "The operator has no contract %s.", "契約 %s は有効になっていません。"},
	CodeBadResource: {KindInvalid, "resource_type must be Subscriber, with an IMSI as resource_id.", "resource_type には Subscriber、resource_id には IMSI を指定してください。"},

	CodeTargetsNeedTLS:     {KindInvalid, "A port mapping for several devices requires TLS.", "複数デバイス向けのポートマッピングには TLS が必要です。"},
	CodeTargetsAlone:       {KindInvalid, "A port mapping for several devices names them in its list of devices only.", "複数デバイス向けのポートマッピングでは、デバイスの一覧でのみデバイスを指定してください。"},
	CodeTooManyTargets:     {KindInvalid, "A port mapping may be for at most %d devices.", "ポートマッピングのデバイスは最大 %d 個です。"},
	CodeTargetTwice:        {KindInvalid, "The device with IMSI %s is listed twice with port %d.", "IMSI %s のデバイスのポート %d が重複しています。"},
	CodeTooManyRequests:    {KindInvalid, "One request makes from 1 to %d port mappings.", "1 回のリクエストで作成できるポートマッピングは 1 個から %d 個です。"},
	CodeCredentialNeedsTLS: {KindInvalid, "A credential requires TLS.", "認証情報を使うには TLS が必要です。"},

	CodeDeviceOffline: {KindOffline, "The specified subscriber is offline.", "指定された回線はオフラインです。"},

	CodeSIMStatus:            {KindConflict, "This is not possible for a SIM whose status is %s.", "ステータスが %s の SIM では実行できません。"},
	CodeTerminationProtected: {KindConflict, "The SIM is protected from termination; call enable_termination first.", "解約プロテクションが有効です。先に enable_termination を実行してください。"},
	CodeBadSpeedClass:        {KindInvalid, "speedClass must be one of %s.", "speedClass には %s のいずれかを指定してください。"},
	CodeBadIMEI:              {KindInvalid, "imei must have 15 or 16 digits, and may end with |ANONYMOUS.", "imei には 15 桁または 16 桁の数字を指定してください。末尾に |ANONYMOUS を付けられます。"},
	CodeNoIMEI:               {KindInvalid, "The device has no session that tells its IMEI; imei is required.", "セッションから IMEI を取得できません。imei を指定してください。"},
	CodeBadExpiry:            {KindInvalid, "expiryTime must be in milliseconds, and expiryAction one of doNothing, deleteSession, deactivate, suspend and terminate.", "expiryTime にはミリ秒を、expiryAction には doNothing、deleteSession、deactivate、suspend、terminate のいずれかを指定してください。"},
	CodeNoExpiry:             {KindNotFound, "The SIM has no expiry time.", "SIM に有効期限は設定されていません。"},
	CodeNoTag:                {KindNotFound, "There is no tag %s.", "タグ %s はありません。"},
	CodeBadTag:               {KindInvalid, "The tags are not valid: %s.", "タグが不正です: %s"},
	CodeBadPing:              {KindInvalid, "numberOfPingRequests must be from 1 to 5 and timeoutSeconds from 1 to 3.", "numberOfPingRequests には 1 から 5、timeoutSeconds には 1 から 3 までの値を指定してください。"},
	CodePingFailed:           {KindFailed, "The echo requests could not be sent.", "ping を送信できませんでした。"},
	CodeBadSearch:            {KindInvalid, "The search is not valid: %s.", "検索条件が不正です: %s"},
	CodeCoreAway:             {KindConflict, "The mobile core cannot be reached.", "コアネットワークに接続できません。"},
	CodeCoreRefused:          {KindConflict, "The mobile core refused.", "コアネットワークに拒否されました。"},
	CodeUnknownSummary:       {KindNotFound, "There is no summary %s.", "サマリー %s はありません。"},

	CodeUnknownGroup:    {KindNotFound, "There is no group with ID %s.", "ID %s のグループが見つかりません。"},
	CodeBadNamespace:    {KindInvalid, "The configuration is not valid: %s.", "設定が不正です: %s"},
	CodeGroupTooLarge:   {KindInvalid, "The configuration of a group has at most %d bytes.", "グループの設定は最大 %d バイトです。"},
	CodeNoConfiguration: {KindNotFound, "There is no such configuration.", "指定された設定はありません。"},
	CodeTooManyGroups:   {KindConflict, "There are already %d groups.", "グループが既に %d 個あります。"},

	CodeUnknownHandler:    {KindNotFound, "There is no event handler with ID %s.", "ID %s のイベントハンドラーが見つかりません。"},
	CodeBadHandler:        {KindInvalid, "The event handler is not valid: %s.", "イベントハンドラーが不正です: %s"},
	CodeUnsupportedRule:   {KindInvalid, "The rule type %s is not supported here.", "ルールタイプ %s は利用できません。"},
	CodeUnsupportedAction: {KindInvalid, "The action type %s is not supported here.", "アクションタイプ %s は利用できません。"},
	CodeTooManyHandlers:   {KindConflict, "A target has at most %d event handlers.", "1 つの監視対象に設定できるイベントハンドラーは最大 %d 個です。"},
	CodeNotIgnored:        {KindNotFound, "The event handler does not ignore IMSI %s.", "イベントハンドラーは IMSI %s を無視していません。"},

	CodeBadPeriod: {KindInvalid, "period must be minutes, day or month, and for groups and operators day or month.", "period には minutes、day、month のいずれかを指定してください。グループとオペレーターでは day または month です。"},
	CodeBadTimes:  {KindInvalid, "from and to are required, and from must not be after to.", "from と to は必須です。from は to より前の時刻にしてください。"},

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
	CodeConnDeviceLeft:           {KindUnavailable, "The device's session ended.", "デバイスのセッションが終了しました。"},
}

// Detail is what a code's message says more precisely, as one of its arguments. Where it
// takes arguments of its own it becomes a Detailed.
type Detail uint8

// Details.
const (
	// Of any JSON.
	DetailEmpty Detail = iota + 1
	DetailEndsEarly
	DetailNotJSON
	DetailBadJSON
	DetailTwoValues
	DetailUnknownField
	DetailBadType
	DetailMustBe
	DetailBodyMustBe

	// Types, for others.
	DetailString
	DetailNumber
	DetailBool
	DetailList
	DetailObject
	DetailAnotherType
	DetailDate
	DetailTime
	DetailDateTime

	// Of fields.
	DetailRequired
	DetailUnknown
	DetailNotKnown
	DetailOneOf
	DetailMustNotBe
	DetailWhole
	DetailLongBytes
	DetailLongCharacters
	DetailShortCharacters
	DetailItems
	DetailManyValues
	DetailIn

	// Of permissions and trust policies.
	DetailTooLong
	DetailNotInPermission
	DetailNotInTrustPolicy
	DetailBadAPI
	DetailBadPrincipal
	DetailBadEffect
	DetailManyStatements
	DetailStatement

	// Of conditions. Places are counted from 1.
	DetailAt
	DetailNoMeaning
	DetailOpenString
	DetailWant
	DetailWantFound
	DetailTheEnd
	DetailCommaOrEnd
	DetailAValue
	DetailStringOrNumber
	DetailBothSides
	DetailAfterNot
	DetailNotTruth
	DetailDeep
	DetailNotComparable
	DetailLargeNumber
	DetailUnknownName
	DetailUnknownFunction
	DetailNotRange
	DetailNumbersIn
	DetailRealTime
	DetailRealDay

	// Of source.ipRanges.
	DetailNoRanges
	DetailManyRanges

	// Of tags, groups and bundles.
	DetailManyTags
	DetailLongTag
	DetailBundles

	// Of event handlers.
	DetailOneTarget
	DetailOthersTarget
	DetailTargetOfMany
	DetailBadURL
	DetailBadHeaders
	DetailBadHeader

	// Of credentials.
	DetailLargeCertificate
	DetailNotCertificate
	DetailNoCertificate
	DetailBadCertificate
	DetailNotCA
	DetailNoSigning
	DetailUnknownKey
	DetailLargeKey
	DetailKeyBlock
	DetailBadKey
	DetailNotPEM

	// Of relays' registrations.
	DetailRelayText

	detailsEnd
)

// details is the one table of details; it never changes.
var details = map[Detail]struct{ en, ja string }{
	DetailEmpty:        {"it is empty", "空です"},
	DetailEndsEarly:    {"the JSON ends early", "JSON が途中で終わっています"},
	DetailNotJSON:      {"at byte %d it is not JSON", "%d バイト目が JSON として正しくありません"},
	DetailBadJSON:      {"it is not JSON", "JSON ではありません"},
	DetailTwoValues:    {"there is more after the JSON value", "JSON の値の後に余分な内容があります"},
	DetailUnknownField: {"unknown field %s", "未知のフィールド %s があります"},
	DetailBadType:      {"%s has another type than it should", "%s の型が正しくありません"},
	DetailMustBe:       {"%s must be %s", "%s には %s を指定してください"},
	DetailBodyMustBe:   {"it must be %s", "%sを指定してください"},

	DetailString:      {"a string", "文字列"},
	DetailNumber:      {"a number", "数値"},
	DetailBool:        {"true or false", "真偽値"},
	DetailList:        {"a list", "リスト"},
	DetailObject:      {"an object", "オブジェクト"},
	DetailAnotherType: {"another type", "別の型"},
	DetailDate:        {"a date", "日付"},
	DetailTime:        {"a time", "時刻"},
	DetailDateTime:    {"a date and time", "日時"},

	DetailRequired:        {"%s is required", "%s は必須です"},
	DetailUnknown:         {"unknown %s", "未知の %s です"},
	DetailNotKnown:        {"%s is not known", "%s は未知の値です"},
	DetailOneOf:           {"%s must be one of %s", "%s には %s のいずれかを指定してください"},
	DetailMustNotBe:       {"%s must not be %s", "%s に %s は指定できません"},
	DetailWhole:           {"%s must be a whole number from %d to %d", "%s には %d から %d までの整数を指定してください"},
	DetailLongBytes:       {"%s is longer than %d bytes", "%s が %d バイトを超えています"},
	DetailLongCharacters:  {"%s must have at most %d characters", "%s は %d 文字以内で指定してください"},
	DetailShortCharacters: {"%s needs at least %d characters", "%s には %d 文字以上を指定してください"},
	DetailItems:           {"%s must have from %d to %d items", "%s は %d 個から %d 個で指定してください"},
	DetailManyValues:      {"there are more than %d values", "値が %d 個を超えています"},
	DetailIn:              {"%s: %s", "%s について: %s"},

	DetailTooLong:          {"it is longer than %d bytes", "%d バイトを超えています"},
	DetailNotInPermission:  {"principal belongs to trust policies", "principal は信頼ポリシーでのみ使えます"},
	DetailNotInTrustPolicy: {"api belongs to permissions", "api はパーミッションでのみ使えます"},
	DetailBadAPI:           {"api %.64q: want a name like Sim:getSim, Sim:list*, Sim:* or *", "api %.64q は Sim:getSim、Sim:list*、Sim:*、* のような名前ではありません"},
	DetailBadPrincipal:     {"principal %.64q: want srn:soracom:OP...::Operator:OP... or srn:soracom:OP...::User:name", "principal %.64q は srn:soracom:OP...::Operator:OP... または srn:soracom:OP...::User:name の形式ではありません"},
	DetailBadEffect:        {"effect %.32q: want allow or deny", "effect %.32q は allow または deny ではありません"},
	DetailManyStatements:   {"there are more than %d statements", "statements が %d 個を超えています"},
	DetailStatement:        {"statement %d: %s", "statements の %d 番目: %s"},

	DetailAt:              {"at %d: %s", "%d 文字目: %s"},
	DetailNoMeaning:       {"this character has no meaning", "この文字は使えません"},
	DetailOpenString:      {"this string does not end", "文字列が閉じていません"},
	DetailWant:            {"want %s", "%s が必要です"},
	DetailWantFound:       {"want %s, found %s", "%s が必要ですが、%s があります"},
	DetailTheEnd:          {"the end", "終わり"},
	DetailCommaOrEnd:      {", or )", ", または )"},
	DetailAValue:          {"a value", "値"},
	DetailStringOrNumber:  {"a string or a number", "文字列または数値"},
	DetailBothSides:       {"both sides of %q must be true or false", "%q の両辺は真偽値でなければなりません"},
	DetailAfterNot:        {"what follows \"not\" is %s", "\"not\" の後が%sです"},
	DetailNotTruth:        {"it is %s, not true or false", "真偽値ではなく%sです"},
	DetailDeep:            {"it is nested too deeply", "入れ子が深すぎます"},
	DetailNotComparable:   {"%s cannot be compared with %s", "%s は %s と比較できません"},
	DetailLargeNumber:     {"the number is too large", "数が大きすぎます"},
	DetailUnknownName:     {"unknown name %.32q", "未知の名前 %.32q です"},
	DetailUnknownFunction: {"unknown function %.32q", "未知の関数 %.32q です"},
	DetailNotRange:        {"%.64q is not a CIDR range", "%.64q は CIDR ではありません"},
	DetailNumbersIn:       {"numbers in %s(...)", "%s(...) の中の数値"},
	DetailRealTime:        {"a time that exists", "実在する時刻"},
	DetailRealDay:         {"a day that exists", "実在する日付"},

	DetailNoRanges:   {"there is none, and the caller's address is unknown", "指定がなく、呼び出し元のアドレスもわかりません"},
	DetailManyRanges: {"there are %d", "%d 個あります"},

	DetailManyTags: {"there are more than %d tags", "タグが %d 個を超えています"},
	DetailLongTag:  {"%.40q: names and values have at most %d bytes, and names are not empty", "%.40q: 名前と値は %d バイト以内で、名前は空にできません"},
	DetailBundles:  {"bundles must be at most %d names of at most %d bytes", "bundles には %d 個以内の名前を、それぞれ %d バイト以内で指定してください"},

	DetailOneTarget:    {"exactly one of targetOperatorId, targetGroupId, targetImsi and targetSimId is required", "targetOperatorId、targetGroupId、targetImsi、targetSimId のいずれか 1 つだけを指定してください"},
	DetailOthersTarget: {"targetOperatorId is not the caller's", "targetOperatorId が呼び出し元のものではありません"},
	DetailTargetOfMany: {"this rule needs an operator or a group as its target", "このルールの対象はオペレーターまたはグループでなければなりません"},
	DetailBadURL:       {"url must be an http or https URL without credentials, of at most %d bytes", "url には認証情報を含まない %d バイト以内の http または https の URL を指定してください"},
	DetailBadHeaders:   {"headers must be an object of at most %d strings", "headers には %d 個以内の文字列を持つオブジェクトを指定してください"},
	DetailBadHeader:    {"a header is not valid", "不正なヘッダーがあります"},

	DetailLargeCertificate: {"the certificate is larger than %d bytes", "証明書が %d バイトを超えています"},
	DetailNotCertificate:   {"a PEM block is not a certificate", "証明書ではない PEM ブロックがあります"},
	DetailNoCertificate:    {"there is no CA certificate", "CA 証明書がありません"},
	DetailBadCertificate:   {"the CA certificate cannot be read", "CA 証明書を読み取れません"},
	DetailNotCA:            {"the certificate is not a CA's", "CA の証明書ではありません"},
	DetailNoSigning:        {"the CA's key must not sign certificates", "CA の鍵は証明書の署名に使えません"},
	DetailUnknownKey:       {"the CA's key is of an unknown kind", "CA の鍵の種類が不明です"},
	DetailLargeKey:         {"the public key is larger than %d bytes", "公開鍵が %d バイトを超えています"},
	DetailKeyBlock:         {"the public key must be one PEM block of type PUBLIC KEY", "公開鍵は PUBLIC KEY 型の PEM ブロック 1 つで指定してください"},
	DetailBadKey:           {"the public key cannot be read", "公開鍵を読み取れません"},
	DetailNotPEM:           {"%s is neither PEM nor base64", "%s は PEM でも base64 でもありません"},

	DetailRelayText: {"the id, instance or region has a zero byte or is not UTF-8", "id、instance、region はゼロバイトを含まない UTF-8 で指定してください"},
}
