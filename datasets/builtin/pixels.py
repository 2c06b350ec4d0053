"""Hashes of the built-in sets' pixels when the published tables were made. A run reads them, and nothing that draws."""

PIXELS = {
    "digits": "36330638807fb458712a820c13f535a65190cd789f3b19ae7f9156019050a8e1",
    "letters": "b35c8be4fd042acbb0a70b3a5b66f808915dc4e2a2bd27a3df7d18343d97046d",
    "shapes": "0a712cb686846c0da0eeec4223b7b3917cc2638f5b197a38337a6c674bc34018",
    "textures": "18409a3c69e3214d99cabc0ffd822f7a33e20e76c44bb6e6f44c3e76919387ce",
    "letters_sketch": "b79b8c28d365e6f2a276bc70a582d44a2d6ae6bf6a60d5d6d5a3cad30d92e029",
    "letters_dark": "47204f49eb682857079235205afc122a62b8956c4b85ca47895785946a4b5658",
    "letters_blurry": "0ab35db4835355308a327ec6f117efcba8475ea876a600772bb0cc5cff06f092",
    "letters_painting": "ef8548a675f6d2ddc8d5dec7ac0897e0b4acf1bffd15ae7956c6dec365374ccb",
}
