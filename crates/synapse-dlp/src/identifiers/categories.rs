//! The categories of identifiers: their names, what they are part of, and how bad a leak of them is.

use super::iban::COUNTRIES;
use crate::hit::{CategoryInfo, Group, Severity};

macro_rules! categories {
    ($($id:ident $name:literal $group:ident $severity:ident;)*) => {
        /// A category, as rules and context words name it. All IBANs are one of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Cat { $($id),* }

        const PLAIN: &[CategoryInfo] = &[$(
            CategoryInfo { name: $name, group: Group::$group, severity: Severity::$severity }
        ),*];
    };
}

categories! {
    // Not a category of its own: IBANs are reported by country.
    Iban "iban" BankAccount High;
    CardVisa "credit_card_visa" PaymentCard High;
    CardMc "credit_card_mc" PaymentCard High;
    CardAmex "credit_card_amex" PaymentCard High;
    CardDiscover "credit_card_discover" PaymentCard High;
    CardDiners "credit_card_diners" PaymentCard High;
    CardJcb "credit_card_jcb" PaymentCard High;
    CardUnionpay "credit_card_unionpay" PaymentCard High;
    CardMaestro "credit_card_maestro" PaymentCard High;
    AccountNumber "account_number" Finance High;
    Bic "bic" Finance Low;
    Isin "isin" Finance Low;
    Lei "lei" Finance Low;
    UsAba "us_aba" Finance Medium;
    Bitcoin "crypto_btc" Finance High;
    Ethereum "crypto_eth" Finance High;
    Imei "imei" NationalId Medium;
    UsSsn "us_ssn" NationalId High;
    UsItin "us_itin" NationalId High;
    UsEin "us_ein" NationalId Medium;
    GbNhs "gb_nhs" Health High;
    GbUtr "gb_utr" NationalId High;
    GbNino "gb_nino" NationalId High;
    InAadhaar "in_aadhaar" NationalId High;
    InPan "in_pan" NationalId High;
    InGstin "in_gstin" NationalId Medium;
    BrCpf "br_cpf" NationalId High;
    BrCnpj "br_cnpj" NationalId Medium;
    EsDni "es_dni" NationalId High;
    EsNie "es_nie" NationalId High;
    CaSin "ca_sin" NationalId High;
    AuTfn "au_tfn" NationalId High;
    AuAbn "au_abn" NationalId Medium;
    AuAcn "au_acn" NationalId Low;
    NlBsn "nl_bsn" NationalId High;
    PlPesel "pl_pesel" NationalId High;
    PlNip "pl_nip" NationalId Medium;
    FrNir "fr_nir" NationalId High;
    DeIdnr "de_idnr" NationalId High;
    DeTaxNumber "de_tax_number" NationalId High;
    DeVat "de_vat" NationalId Low;
    DeSocialSecurity "de_social_security" NationalId High;
    DeCommercialRegister "de_commercial_register" NationalId Low;
    ItCf "it_cf" NationalId High;
    ItVat "it_vat" NationalId Low;
    SePnr "se_pnr" NationalId High;
    SeOrgnr "se_orgnr" NationalId Low;
    NoFnr "no_fnr" NationalId High;
    DkCpr "dk_cpr" NationalId High;
    FiHetu "fi_hetu" NationalId High;
    BeNn "be_nn" NationalId High;
    ChAhv "ch_ahv" NationalId High;
    CzRc "cz_rc" NationalId High;
    RoCnp "ro_cnp" NationalId High;
    BgEgn "bg_egn" NationalId High;
    HrOib "hr_oib" NationalId High;
    EeIk "ee_ik" NationalId High;
    GrAmka "gr_amka" NationalId High;
    IePps "ie_pps" NationalId High;
    PtNif "pt_nif" NationalId High;
    TrTckn "tr_tckn" NationalId High;
    ZaId "za_id" NationalId High;
    KrRrn "kr_rrn" NationalId High;
    KrFrn "kr_frn" NationalId High;
    KrBrn "kr_brn" NationalId Low;
    CnRic "cn_ric" NationalId High;
    ThPin "th_pin" NationalId High;
    IlId "il_id" NationalId High;
    MxCurp "mx_curp" NationalId High;
    ClRut "cl_rut" NationalId High;
    ArCuit "ar_cuit" NationalId High;
    MyNric "my_nric" NationalId High;
    JpMy "jp_my" NationalId High;
    UaRntrc "ua_rntrc" NationalId High;
    SgNric "sg_nric" NationalId High;
    PhTin "ph_tin" NationalId High;
    AuMedicare "au_medicare" Health High;
    UsMbi "us_mbi" Health High;
    UsNpi "us_npi" Health Low;
    UsDea "us_dea" Health Medium;
    DeBsnr "de_bsnr" Health Low;
    DeLanr "de_lanr" Health Low;
    DeKvnr "de_kvnr" Health High;
    MedicalRecord "medical_record" Health High;
    Icd10 "icd10" Health Medium;
    DeIdCard "de_id_card" Document High;
    DePassport "de_passport" Document High;
    DeDrivingLicence "de_driving_licence" Document High;
    DePlate "de_plate" Document Medium;
    DePostcode "de_postcode" Contact Low;
    EsPassport "es_passport" Document High;
    GbPassport "gb_passport" Document High;
    GbDrivingLicence "gb_driving_licence" Document High;
    GbPlate "gb_plate" Document Medium;
    GbPostcode "gb_postcode" Contact Low;
    InPassport "in_passport" Document High;
    InPlate "in_plate" Document Medium;
    InVoter "in_voter" NationalId High;
    ItDrivingLicence "it_driving_licence" Document High;
    ItIdCard "it_id_card" Document High;
    ItPassport "it_passport" Document High;
    KrDrivingLicence "kr_driving_licence" Document High;
    KrPassport "kr_passport" Document High;
    NgPlate "ng_plate" Document Medium;
    TrPlate "tr_plate" Document Medium;
    UsPassport "us_passport" Document High;
    UsDrivingLicence "us_driving_licence" Document High;
    Email "email" Contact Medium;
    Phone "phone" Contact Medium;
    IpAddress "ip_address" Network Medium;
    MacAddress "mac_address" Network Medium;
    Date "date" Date Low;
}

impl Cat {
    /// Its name in findings.
    pub(super) fn name(self) -> &'static str {
        PLAIN[self as usize].name
    }
}

const COUNT: usize = PLAIN.len() - 1 + COUNTRIES.len();

/// All of them: those above, and an IBAN for every country that has one.
pub(super) static ALL: [CategoryInfo; COUNT] = {
    let mut all = [PLAIN[0]; COUNT];
    let mut place = 0;
    while place < COUNT {
        if place < COUNTRIES.len() {
            all[place].name = COUNTRIES[place].category;
        } else {
            all[place] = PLAIN[place - COUNTRIES.len() + 1];
        }
        place += 1;
    }
    all
};
