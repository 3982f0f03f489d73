"""The demuxers and decoders of FFmpeg that are used, by FFmpeg's names.

FFmpeg has hundreds. Among them are playlists, which open files and addresses that a recording names, and
formats of games, which nobody tries to break.
"""

DEMUXER_LIST = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,g722,g729,gsm,iff,loas,"
    "matroska,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,nut,ogg,qcp,sox,tak,tta,voc,"
    "w64,wav,wv"
)

DECODER_LIST = (
    "aac,aac_latm,ac3,alac,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,ape,dca,dsd_lsbf,"
    "dsd_lsbf_planar,dsd_msbf,dsd_msbf_planar,eac3,evrc,flac,g722,g723_1,g726,g726le,g729,gsm,"
    "gsm_ms,ilbc,libopus,mp1,mp1float,mp2,mp2float,mp3,mp3float,mpc7,mpc8,nellymoser,opus,"
    "qcelp,speex,tak,truespeech,tta,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice,"
    "adpcm_adx,adpcm_g722,adpcm_g726,adpcm_g726le,adpcm_ima_oki,adpcm_ima_qt,adpcm_ima_wav,"
    "adpcm_ms,adpcm_sbpro_2,adpcm_sbpro_3,adpcm_sbpro_4,adpcm_swf,adpcm_yamaha,pcm_alaw,"
    "pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,"
    "pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24le,pcm_s24le_planar,pcm_s32be,"
    "pcm_s32le,pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,pcm_u16be,pcm_u16le,"
    "pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8"
)

DECODERS = frozenset(DECODER_LIST.split(","))

#: Demuxers that are used only where the client names the format: they take nearly anything for theirs.
HEADERLESS = frozenset({"g722", "g729", "gsm"})
